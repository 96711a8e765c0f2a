"""The exported graph against torch: the same images must give the same answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tledge.errors import TledgeError
from tledge.models import Network
from tledge.runtime import open_session

TOLERANCE = 1e-3  # of the largest logit: sums in another order differ by 1e-6, wrong graphs by 1e-1


@dataclass(frozen=True)
class Parity:
    """How far two sets of logits are apart: the largest difference, what is allowed, and answers changed."""

    images: int
    difference: float
    allowed: float
    changed: int


def parity(network: Network, onnx: bytes, tensors: NDArray[np.float32], threads: int | None = None) -> Parity:
    """Run torch (float32, no autocast, no TF32) and ONNX Runtime on `tensors` (N x 3 x H x W) and compare.

    Raises:
        TledgeError: they disagree; see `compare`.
    """
    plain = network.float().eval()
    device = next(plain.parameters()).device
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.inference_mode():
            ours = plain(torch.from_numpy(tensors).to(device)).cpu().numpy()
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    session = open_session(onnx, "onnxruntime", threads=threads)
    return compare(ours, session.run(tensors))


def compare(ours: NDArray[Any], theirs: NDArray[Any]) -> Parity:
    """Compare torch's logits with the graph's, both images x classes.

    Raises:
        TledgeError: a logit differs by more than 1e-3 x max(1, largest logit), or an answer changed where the
            two best are further apart than twice that, or a logit is not finite: the exporter is at fault.
    """
    allowed = TOLERANCE * max(1.0, float(np.abs(ours).max()))
    difference = float(np.abs(ours - theirs).max())
    changed = ours.argmax(axis=1) != theirs.argmax(axis=1)
    best = np.sort(ours, axis=1)
    margin = best[:, -1] - best[:, -2]
    # Written so that NaN, which compares as false with everything, fails.
    if not difference <= allowed or bool((changed & (margin > 2 * allowed)).any()):
        raise TledgeError(
            f"the exported graph differs from the network by {difference:.3g} in a logit "
            f"(allowed: {allowed:.3g}), and {int(changed.sum())} of {len(ours)} answers changed",
            hint="This is a fault of the exporter: try another version of torch, and report the backbone.",
        )
    return Parity(len(ours), difference, allowed, int(changed.sum()))
