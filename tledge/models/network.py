"""A network: body (image to features) and head (features to logits), rebuildable from a small dictionary.

`model.safetensors` holds the weights, and in its metadata the dictionary, so that the one file is enough to
have the network back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialise
from torch import Tensor, nn

from tledge.errors import BundleError, UsageError

CONFIG_KEY = "tledge.network"


class Network(nn.Module):
    """An image classifier.

    Attributes:
        body: N x 3 x H x W to features N x D, or to a map that is then flattened.
        head: features to logits N x classes.
        config: what `rebuild` needs: backbone, classes, head, pool, size (height and width), features (D).
    """

    def __init__(self, body: nn.Module, head: nn.Module, config: dict[str, Any]) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.config = config

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled features, N x D, of normalised images, N x 3 x H x W."""
        result: Tensor = self.body(images)
        return result if result.ndim == 2 else result.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, N x classes."""
        result: Tensor = self.head(self.features(images))
        return result

    @property
    def linear(self) -> nn.Linear:
        """Return the last layer, which gives the logits."""
        last = self.head if isinstance(self.head, nn.Linear) else list(self.head.children())[-1]
        if not isinstance(last, nn.Linear):
            raise TypeError(f"the head ends with {type(last).__name__}")
        return last


def make_head(kind: str, features: int, classes: int) -> nn.Module:
    """Return a head: "linear", or "mlp:1024,512" (hidden layers with ReLU and dropout, then linear).

    Raises:
        UsageError: `kind` is neither.
    """
    if kind == "linear":
        return nn.Linear(features, classes)
    name, _, widths = kind.partition(":")
    sizes = widths.split(",")
    if name != "mlp" or not all(size.isdigit() and int(size) > 0 for size in sizes):
        raise UsageError(f"unknown head {kind!r}", hint='It is "linear", or "mlp:1024", or "mlp:4096,4096".')
    layers: list[nn.Module] = []
    for size in map(int, sizes):
        # 0.5 is what VGG's head and every textbook's perceptron use; the widths asked for are as large.
        layers += [nn.Linear(features, size), nn.ReLU(), nn.Dropout(0.5)]
        features = size
    return nn.Sequential(*layers, nn.Linear(features, classes))


def save(network: Network, weights: Mapping[str, Tensor] | None = None) -> bytes:
    """Return the bytes of `model.safetensors`; `weights` stand in for the network's own where given."""
    tensors = network.state_dict() if weights is None else weights
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return serialise(plain, metadata={CONFIG_KEY: json.dumps(network.config, sort_keys=True)})


def load(data: bytes, path: str | Path = "model.safetensors") -> Network:
    """Return the network of a `model.safetensors`, in evaluation mode; `path` is for messages.

    Raises:
        BundleError: it is no such file, or its weights do not fit the network that it names.
    """
    from tledge.models.create import rebuild

    try:
        length = int.from_bytes(data[:8], "little")
        config = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][CONFIG_KEY])
        network = rebuild(config)
        network.load_state_dict(parse(data), strict=True)
    except (ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise BundleError(f"{path} is not a network of tledge: {reason[0]}", path=path) from error
    return network.eval()


@torch.no_grad()
def measure_features(body: nn.Module, size: tuple[int, int]) -> int:
    """Return D: how many features `body` gives an image of `size` (height, width).

    Raises:
        UsageError: the body cannot take images of that size.
    """
    height, width = size
    was_training = body.training
    try:
        features = body.eval()(torch.zeros(1, 3, height, width))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise UsageError(
            f"this backbone cannot take images of {height} x {width}: {reason}",
            hint="Choose another --image-size, or leave it out.",
        ) from error
    finally:
        body.train(was_training)
    return int(features.numel())
