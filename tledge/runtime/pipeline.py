"""An engine on a GPU, answering from several lanes (`tledge.runtime.lane`).

Everything is allocated and recorded when a pipeline is made; a frame costs one graph launch. With two lanes
a frame is uploaded while the one before it is computed. A lane is lent to one thread at a time; any thread
may borrow one, since launching and waiting go to the driver by its own handles (pycuda's objects belong to
the thread that made them).
"""

from __future__ import annotations

import queue
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from tledge.cuda import Gpu
from tledge.errors import InputError, MachineError, TledgeError
from tledge.preprocess import Spec
from tledge.runtime.lane import Engine, Lane
from tledge.runtime.session import Array

LANES = 2  # one frame is uploaded or downloaded while another is computed; more only wait for the GPU


class Pipeline:
    """An engine on a GPU, ready: `infer` answers tensors, from any thread."""

    def __init__(
        self, gpu: Gpu, engine: Engine, lanes: int = LANES, spec: Spec | None = None, temperature: float = 1.0
    ) -> None:
        """Allocate and warm up everything. Close it in the same thread; it closes the GPU too.

        Lanes take pixels and find the best classes where there is a `spec`, whose tensors the engine takes.
        `temperature` is what logits are divided by for the probabilities.

        Raises:
            MachineError: there is not enough memory, or no compiler for the kernels that a `spec` asks for;
                nothing is left allocated.
        """
        self.engine = engine
        self._gpu = gpu
        self._lanes: list[Lane] = []
        self._idle: queue.LifoQueue[Lane] = queue.LifoQueue()
        self._free = weakref.finalize(self, _free, gpu, engine, self._lanes)
        try:
            with gpu.current():
                for _ in range(lanes):
                    self._lanes.append(Lane(gpu, engine, spec, temperature))
        except BaseException:
            self.close()
            raise
        for lane in self._lanes:
            self._idle.put(lane)

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        """Lend a lane, waiting for one where all are busy."""
        lane = self._idle.get()
        try:
            yield lane
        finally:
            self._idle.put(lane)

    def infer(self, x: Array) -> Array:
        """Return the logits of the input tensor `x`, a fresh array.

        A batch size without a graph of its own is filled up to the next that has one.

        Raises:
            InputError: more images than the engine takes.
            MachineError: the GPU's context is lost.
        """
        largest = self.engine.batch[2]
        if len(x) > largest:
            raise InputError(
                f"the engine {self.engine.name} takes at most {largest} images at once, "
                f"and was given {len(x)}",
                hint=f"Give at most {largest}, or build it for more: tledge build-engine --batch "
                f"{self.engine.batch[0]}:{self.engine.batch[1]}:{len(x)} --rebuild.",
            )
        with self.lane() as lane:
            lane.images[: len(x)] = x
            lane.run(len(x))
            answer: Array = lane.logits(len(x)).copy()
            return answer

    def close(self) -> None:
        """Give all memory and the GPU back; once more does nothing.

        A pipeline that is dropped, or is there when the process ends, closes by itself.

        Raises:
            TledgeError: another thread made it.
        """
        if self._free.alive and not self._gpu.is_mine:
            raise TledgeError(
                f"the engine {self.engine.name} was opened by another thread", hint="Close it there."
            )
        self._free()


def _free(gpu: Gpu, engine: Engine, lanes: list[Lane]) -> None:
    """Free lanes, engine and GPU, in this order. Nothing of a lost GPU, or from another thread, can be."""
    if not gpu.is_mine:
        return
    try:
        with gpu.current():
            while lanes:
                lanes.pop().free()
            engine.free()
    except MachineError:
        return
    gpu.close()
