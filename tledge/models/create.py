"""From the name of a backbone to a network with weights and its preprocessing."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as parse
from torch import Tensor

from tledge.errors import InputError, UsageError, nearest
from tledge.models import library, lite, tiny
from tledge.models.network import Network, make_head, measure_features
from tledge.preprocess import Crop, Spec

POOLS = ("avg", "flatten")


def names() -> tuple[str, ...]:
    """Return the names of all backbones that can be made here."""
    return (
        *lite.names(),
        *(f"tledge:{name}" for name in tiny.names()),
        *(f"torchvision:{name}" for name in library.torchvision_names()),
        *(f"timm:{name}" for name in library.timm_names()),
    )


def create(
    backbone: str,
    classes: int,
    *,
    weights: str | Path = "pretrained",
    head: str = "linear",
    pool: str = "avg",
    image_size: int | None = None,
) -> tuple[Network, Spec]:
    """Return a network for `classes` classes, in evaluation mode, and how its images are preprocessed.

    Args:
        backbone: `efficientnet-liteN`, `torchvision:NAME`, `timm:NAME`, `tledge:cnn` or `tledge:mlp`.
        classes: how many logits it gives.
        weights: "pretrained" (the backbone's own; the tiny networks have none and start at random), "none",
            or a .safetensors file with the library's names or written by tledge.
        head: "linear" or "mlp:1024".
        pool: "avg" (as the backbone does it), or "flatten" (each pixel of the last map a feature).
        image_size: side of the input in pixels; None: what the weights were trained for.

    Raises:
        UsageError: an unknown backbone, pool or head, or a size that the backbone cannot take.
        MachineError: the weights are not on this machine and cannot be had.
        InputError: the weight file does not fit.
    """
    source, name = _resolve(backbone)
    spec = resized(_spec(source, name), image_size)
    network = _build(backbone, classes, head, pool, spec.size)
    if weights == "none" or (weights == "pretrained" and source == "tledge"):
        return network.eval(), spec
    if weights == "pretrained":
        state = _pretrained(source, name)
        where = f"the pretrained weights of {backbone}"
    else:
        state = _read(Path(weights))
        where = str(weights)
    _load_body(network, state, where)
    return network.eval(), spec


def rebuild(config: dict[str, Any]) -> Network:
    """Return the network that `Network.config` describes, its weights at random."""
    height, width = config["size"]
    return _build(config["backbone"], config["classes"], config["head"], config["pool"], (height, width))


def is_scratch(backbone: str, weights: str | Path) -> bool:
    """Tell whether a network made of these starts without anything learnt."""
    return weights == "none" or (weights == "pretrained" and backbone.startswith("tledge:"))


def adapted(network: Network, classes: int, head: str, size: tuple[int, int]) -> Network:
    """Return a network with the body of `network`, weights included, and a fresh head for `classes`.

    Raises:
        UsageError: the body cannot take images of `size` (height, width).
    """
    fresh = rebuild(network.config | {"classes": classes, "head": head, "size": list(size)})
    try:
        fresh.body.load_state_dict(network.body.state_dict())
    except RuntimeError as error:
        raise UsageError(
            f"the weights of this {network.config['backbone']} are for images of "
            f"{network.config['size'][0]} x {network.config['size'][1]} pixels only",
            hint="Leave --image-size out.",
        ) from error
    return fresh.eval()


def _build(backbone: str, classes: int, head: str, pool: str, size: tuple[int, int]) -> Network:
    source, name = _resolve(backbone)
    if pool not in POOLS:
        raise UsageError(f"unknown pool {pool!r}", hint=nearest(pool, POOLS))
    if source == "tledge":
        body = tiny.body(name, size)
    elif source == "torchvision":
        body = library.torchvision_body(name, pool)
    else:
        body = library.timm_body(lite.timm_name(name) if source == "lite" else name, pool, size)
    features = measure_features(body, size)
    config = {
        "backbone": backbone,
        "classes": classes,
        "head": head,
        "pool": pool,
        "size": list(size),
        "features": features,
    }
    return Network(body, make_head(head, features, classes), config)


def _resolve(backbone: str) -> tuple[str, str]:
    """Return (source, name): ("lite", "efficientnet-lite0"), ("timm", "resnet18")."""
    source, colon, name = backbone.partition(":")
    if not colon and backbone in lite.names():
        return "lite", backbone
    known = {"tledge": tiny.names, "torchvision": library.torchvision_names, "timm": library.timm_names}
    if colon and source in known and name in known[source]():
        return source, name
    candidates = [f"{source}:{other}" for other in known[source]()] if source in known else list(names())
    # "resnet50" is what people type: both libraries have one.
    exact = [other for other in names() if not colon and other.partition(":")[2] == backbone]
    hint = f"Did you mean {' or '.join(exact)}?" if exact else nearest(backbone, candidates)
    if len(hint) > 200:
        tinies = ", ".join(f"tledge:{name}" for name in tiny.names())
        hint = f"Known: {', '.join(lite.names())}, torchvision:NAME, timm:NAME, {tinies}."
    raise UsageError(f"unknown backbone {backbone!r}", hint=hint)


def _spec(source: str, name: str) -> Spec:
    if source == "lite":
        return lite.spec(name)
    if source == "tledge":
        return tiny.spec(name)
    return library.torchvision_spec(name) if source == "torchvision" else library.timm_spec(name)


def resized(spec: Spec, side: int | None) -> Spec:
    """Return `spec` for a square input of `side`, with the same part of the image in view."""
    if side is None or spec.size == (side, side):
        return spec
    if side < 1:
        raise UsageError(f"an image size of {side} pixels", hint="Give --image-size 224, say.")
    if not isinstance(spec.geometry, Crop):
        return dataclasses.replace(spec, geometry=dataclasses.replace(spec.geometry, size=(side, side)))
    before = spec.geometry.resize
    if isinstance(before, int):
        # Up to a rounding of one pixel, timm's floor(size / crop_pct).
        resize: int | tuple[int, int] = math.floor(side * before / spec.size[0])
    else:
        resize = tuple(math.floor(side * old / new) for old, new in zip(before, spec.size, strict=True))  # type: ignore[assignment]
    return dataclasses.replace(spec, geometry=Crop(resize=resize, size=(side, side)))


def _pretrained(source: str, name: str) -> dict[str, Tensor]:
    if source == "lite":
        import timm

        like = timm.create_model(lite.timm_name(name), pretrained=False).state_dict()
        return lite.weights(name, like)
    return library.torchvision_weights(name) if source == "torchvision" else library.timm_weights(name)


def classifier(backbone: str, network: Network) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Return weight (classes x features) and bias of the head that the pretrained `backbone` came with.

    None where it has none, or one of another shape than a linear layer on the body's features.

    Raises:
        MachineError: the weights are not on this machine and cannot be had.
    """
    source, name = _resolve(backbone)
    if source == "tledge":
        return None
    state, body = _pretrained(source, name), network.body.state_dict()
    layers = [key for key, tensor in state.items() if tensor.ndim == 2 and key not in body]
    if not layers or not layers[-1].endswith(".weight"):
        return None
    weight, bias = state[layers[-1]], state.get(layers[-1].removesuffix("weight") + "bias")
    if bias is None or weight.shape[1] != network.config["features"]:
        return None
    return weight.float().numpy(), bias.float().numpy()


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return parse(path.read_bytes())
    except OSError as error:
        hint = 'Give a .safetensors file, or "pretrained", or "none".'
        raise InputError(f"no such weight file: {path}", hint=hint, path=path) from error
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file: {error}", path=path) from error


def _load_body(network: Network, state: dict[str, Tensor], where: str) -> None:
    """Fill the body from `state`; what `state` has beyond it is the head of another task, and is left out."""
    wanted = network.body.state_dict()
    found = {
        key: state[name] for key in wanted for name in (key, f"body.{key}") if name in state
    }  # our own files say "body."
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    if missing:
        raise InputError(
            f"{where} lacks {len(missing)} of {len(wanted)} tensors of {network.config['backbone']}, "
            f"such as {missing[0]}",
            hint="Is it of another network, or of another library's version of this one?",
        )
    for key, tensor in found.items():
        if tensor.shape != wanted[key].shape:
            raise InputError(
                f"{where}: {key} has shape {tuple(tensor.shape)}, and {network.config['backbone']} "
                f"wants {tuple(wanted[key].shape)}",
                hint="Is it of another size of this network?",
            )
    network.body.load_state_dict(wanted | found, strict=True)
