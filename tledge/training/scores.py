"""What ends a training run: the network exported, compared with its graph, and both scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tledge.bundle import Bundle, Writer
from tledge.bundle.files import sha256_bytes
from tledge.data import decode
from tledge.data.ahead import ordered
from tledge.evaluation import attention as evaluation
from tledge.evaluation import stage
from tledge.evaluation.images import EvalSet, Readable, of_bundle
from tledge.evaluation.stage import Stage
from tledge.export import compare, to_onnx
from tledge.models import Network, save
from tledge.preprocess import Preprocessor, preprocessor
from tledge.progress import Progress
from tledge.runtime.choose import others
from tledge.training import attention, features
from tledge.training.device import Device

BATCH = 32


def put_errors(
    writer: Writer, bundle: Bundle, network: Network, scored: Stage, temperature: float | None
) -> None:
    """Stage the network's surest wrong answers on the bundle's eval images, with what it looked at.

    `network` is on the CPU; `scored` is its stage on these images.
    """
    if entries := bundle.eval_images():
        files = tuple(entry.file for entry in entries)
        prepare = preprocessor(bundle.spec, "host")
        logits = scored.logits / (temperature or 1.0)
        evaluation.put(writer, attention.find(network, of_bundle(bundle), files, logits, prepare))


def export_and_score(
    bundle: Bundle,
    writer: Writer,
    network: Network,
    images: EvalSet,
    *,
    device: Device,
    progress: Progress,
    parent: Stage | None = None,
) -> list[Stage]:
    """Stage `model.safetensors` and `fp32.onnx` of the network, and return both scored, torch first.

    Other backends that run `fp32` here are scored after them. Nothing of the scores is staged.

    Args:
        bundle: for spec and labels.
        writer: takes the two files.
        network: in evaluation mode, on the CPU.
        images: to score on.
        device: where torch runs.
        progress: where to report.
        parent: the stage that the network was made from, scored on the same images, where there is one.
    """
    spec = bundle.spec
    weights = save(network)
    progress.note("exporting to ONNX")
    onnx = to_onnx(network, spec, bundle.labels)
    ours = torch_logits(network, images, preprocessor(spec, "host"), device, progress)
    writer.put("model.safetensors", weights)
    writer.put("fp32.onnx", onnx)
    first = stage.score_stage(
        stage.TORCH,
        ours,
        images,
        variant=None,
        backend="torch",
        device=device.label,
        file_sha256=sha256_bytes(weights),
        parent=parent.row.stage if parent else None,
        parent_logits=parent.logits if parent else None,
    )
    second = stage.measure(
        bundle, *stage.REFERENCE, images=images, graph=onnx, parent_logits=ours, progress=progress
    )
    same = compare(ours, second.logits)
    progress.note(
        f"torch and ONNX Runtime: difference {same.difference:.2g} of {same.allowed:.2g} allowed, "
        f"{same.changed} of {same.images} answers changed"
    )
    return [
        first,
        second,
        *(
            stage.measure(
                bundle,
                "fp32",
                backend,
                images=images,
                graph=onnx,
                parent_logits=second.logits,
                progress=progress,
            )
            for backend in others("fp32")
        ),
    ]


@torch.inference_mode()
def torch_logits(
    network: Network, images: EvalSet, prepare: Preprocessor, device: Device, progress: Progress
) -> NDArray[Any]:
    """Return the network's logits for the images in order: float32, with neither autocast nor TF32."""
    network = features.place(network, device).eval()
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def tensor(image: Readable) -> NDArray[Any]:
        return decode.tensor(image.read(), prepare, name=image.name)

    parts: list[NDArray[Any]] = []
    waiting: list[NDArray[Any]] = []
    try:
        with progress.task("scoring torch", total=len(images)) as task:
            for one in ordered(tensor, images.images, ahead=2 * BATCH):
                waiting.append(one)
                if len(waiting) == BATCH or task.done + len(waiting) == len(images):
                    parts.append(network(features.upload(np.stack(waiting), device)).cpu().numpy())
                    task.advance(len(waiting))
                    waiting = []
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
        network.cpu()
    return np.concatenate(parts)
