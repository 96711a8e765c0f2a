"""The one pass over the calibration images: each tensor that a placement needs, observed as it streams by."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tledge.errors import InputError
from tledge.progress import Progress
from tledge.quantization.graph import Graph, session, with_outputs
from tledge.quantization.observers import Observer
from tledge.quantization.placement import Placement

if TYPE_CHECKING:
    from onnx import ModelProto

# The tensors of one run of the network may take this much memory; with more, the pass is cut into several
# runs of the network on the same batch, each for a part of the tensors.
MEMORY = 128 * 2**20


def observe(
    model: ModelProto,
    placements: Iterable[Placement],
    batches: Iterable[NDArray[np.float32]],
    *,
    total: int,
    threads: int,
    progress: Progress,
) -> dict[str, Observer]:
    """Run the float network over the batches and return an observer for each tensor of the placements.

    Raises:
        InputError: a tensor is NaN or infinite (it is named), or the answers are the same for every image.
    """
    graph = Graph(model)
    wanted = {name for placement in placements for name in placement.tensors}
    answer = graph.outputs[0]
    # In the order of the graph, so that of several broken tensors the first is named.
    names = [name for node in graph.nodes for name in node.output if name in wanted and name != answer]
    observers = {name: Observer(name) for name in (graph.input, *names, answer)}
    lowest: NDArray[np.float32] | None = None
    highest: NDArray[np.float32] | None = None
    runs = None
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="tledge-observe") as pool,
        progress.task("observing", total=total) as task,
    ):
        for batch in batches:
            if runs is None:
                runs = [
                    (session(with_outputs(model, part), threads), part)
                    for part in _parts(graph, [*names, answer], batch)
                ]
            observers[graph.input].observe(batch)
            for opened, part in runs:
                values = opened.run(part, {graph.input: batch})
                # One tensor is one thread's, so that its sums are added in the order of the images.
                list(
                    pool.map(lambda pair: observers[pair[0]].observe(pair[1]), zip(part, values, strict=True))
                )
            logits = values[-1]
            low, high = logits.min(axis=0), logits.max(axis=0)
            lowest = low if lowest is None else np.minimum(lowest, low)
            highest = high if highest is None else np.maximum(highest, high)
            task.advance(len(batch))
    if runs is None:
        raise InputError("there are no images to calibrate with")
    if total > 1 and lowest is not None and highest is not None and np.array_equal(lowest, highest):
        raise InputError(
            "the float network answers every image alike: its logits are constant",
            hint="It is broken before calibration: evaluate it first.",
        )
    return {name: seen for name, seen in observers.items() if name in wanted}


def _parts(graph: Graph, names: list[str], batch: NDArray[np.float32]) -> list[list[str]]:
    """Return the tensors in parts whose values for one batch fit in MEMORY together, in order."""
    parts: list[list[str]] = [[]]
    size = 0
    for name in names:
        shape = graph.types.get(name, (1, ()))[1]
        own = 4 * len(batch) * int(np.prod([s for s in shape[1:] if s], dtype=np.int64))
        if parts[-1] and size + own > MEMORY:
            parts.append([])
            size = 0
        parts[-1].append(name)
        size += own
    return parts
