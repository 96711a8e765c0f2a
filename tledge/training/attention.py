"""Where in an image a network saw what it answered wrongly: Grad-CAM (R. R. Selvaraju et al., ICCV 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tledge.data import decode
from tledge.evaluation.attention import Attention, WorstError
from tledge.evaluation.images import EvalSet
from tledge.evaluation.paired import log_softmax
from tledge.models import Network
from tledge.preprocess import Preprocessor

MOST = 24  # what a person looks at, and what the report shows


def find(
    network: Network, images: EvalSet, files: tuple[str, ...], logits: NDArray[Any], prepare: Preprocessor
) -> Attention:
    """Return the surest wrong answers, and the network's Grad-CAM map of each for the answer that it gave.

    Args:
        network: in evaluation mode, on the CPU.
        images: the eval images.
        files: their names in the bundle.
        logits: its answers to them, images x classes, over the temperature.
        prepare: makes the input tensors.
    """
    truth, best = images.expected, logits.argmax(axis=1)
    sure = np.exp(log_softmax(logits.astype(np.float64))).max(axis=1)
    wrong = np.flatnonzero(best != truth)
    chosen = wrong[np.lexsort((wrong, -sure[wrong]))][:MOST].tolist()
    errors = tuple(
        WorstError(files[i], images.images[i].name, int(truth[i]), int(best[i]), round(float(sure[i]), 4))
        for i in chosen
    )
    named = last_map(network)
    if named is None:
        return Attention("the network has no map whose positions reach its answer", errors, None)
    name, module = named
    maps = [
        grad_cam(network, module, _tensor(images, i, prepare), one.answer)
        for i, one in zip(chosen, errors, strict=True)
    ]
    return Attention(name, errors, np.stack(maps) if maps else None)


@torch.no_grad()
def last_map(network: Network) -> tuple[str, nn.Module] | None:
    """Return the last layer that gives a map of positions, with its name; None for networks without one.

    These are perceptrons, and transformers: behind their first layer positions mix, so that a map of it would
    tell nothing.
    """
    if any("Attention" in type(module).__name__ for module in network.modules()):
        return None
    seen: list[tuple[str, nn.Module]] = []

    def watch(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
                seen.append((name, module))

        return module.register_forward_hook(hook)

    leaves = [(n, m) for n, m in network.body.named_modules() if not any(True for _ in m.children())]
    handles = [watch(f"body.{name}", module) for name, module in leaves]
    try:
        height, width = network.config["size"]
        network(torch.zeros(1, 3, height, width))
    finally:
        for handle in handles:
            handle.remove()
    return seen[-1] if seen else None


def grad_cam(network: Network, layer: nn.Module, x: Tensor, answer: int) -> NDArray[np.uint8]:
    """Return the map of `layer` for an answer, rows x columns: 255 where it speaks most for the answer.

    `x` is one image, 1 x 3 x H x W. All 0 where no position speaks for it.
    """
    kept: list[Tensor] = []

    def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        # Gradients are needed from here on alone, whether or not the weights before have any.
        kept[:] = [output.detach().requires_grad_()]
        return kept[0].clone()  # what follows may work in place

    handle = layer.register_forward_hook(hook)
    try:
        with torch.enable_grad():
            logits = network(x)
            (slope,) = torch.autograd.grad(logits[0, answer], kept[0])
    finally:
        handle.remove()
    weights = slope.mean(dim=(2, 3), keepdim=True)
    found = (weights * kept[0].detach()).sum(dim=1)[0].clamp_min(0)
    peak = float(found.max())
    scaled = (found / peak * 255).round() if peak > 0 else torch.zeros_like(found)
    return np.asarray(scaled.numpy(), np.uint8)


def _tensor(images: EvalSet, index: int, prepare: Preprocessor) -> Tensor:
    image = images.images[index]
    return torch.from_numpy(decode.tensor(image.read(), prepare, name=image.name)[None])
