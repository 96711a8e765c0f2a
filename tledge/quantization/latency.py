"""What a state of `int8-cpu` costs where it runs: one image through ONNX Runtime on this processor.

Only told, never chosen by: a choice must not depend on the machine that it is made on, nor on what else runs
there. What `int8` costs on a GPU cannot be known on a CPU; its cost is told in multiplications.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tledge.quantization.graph import session

if TYPE_CHECKING:
    from onnx import ModelProto

WARM, RUNS = 3, 15


def milliseconds(model: ModelProto, tensors: NDArray[np.float32], threads: int) -> float:
    """Return the median milliseconds of an inference of one image; of one batch, where the graph fixes it.

    Args:
        model: The graph.
        tensors: Images, N x C x H x W.
        threads: Threads of one inference.
    """
    opened = session(model, threads, exact=False)
    entry = opened.get_inputs()[0]
    size = entry.shape[0] if isinstance(entry.shape[0], int) else 1
    feed = {entry.name: tensors[:size]}
    times = []
    for _ in range(WARM + RUNS):
        started = time.perf_counter()
        opened.run(None, feed)
        times.append(1000 * (time.perf_counter() - started))
    return float(np.median(times[WARM:]))
