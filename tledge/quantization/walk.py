"""A graph run step by step on some images, whose activations wait in memory between two steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tledge.quantization.graph import Graph, part, session
from tledge.quantization.images import BATCH

if TYPE_CHECKING:
    from onnx import ModelProto

Batches = list[NDArray[np.float32]]
EMPTY = np.empty(0, np.float32)


class Walk:
    """Runs a graph from one layer to the next, keeping only what later nodes still read."""

    def __init__(self, model: ModelProto, images: NDArray[np.float32], threads: int | None) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self.position = 0
        self.threads = threads
        batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        self.values: dict[str, Sequence[NDArray[np.float32]]] = {Graph(model).input: batches}

    def until(self, node_name: str) -> Batches:
        """Run up to and with the node, and return its output in batches; changing these changes the walk."""
        end = self._index(node_name) + 1
        result: str = self.nodes[end - 1].output[0]
        return self._run(end, result)

    def before(self, node_name: str, tensor: str) -> Sequence[NDArray[np.float32]]:
        """Run up to the node, without it, and return what it reads of `tensor` in batches."""
        end = self._index(node_name)
        return self._run(end, tensor) if end > self.position else self.values[tensor]

    def finish(
        self, values: Mapping[str, Batches], constants: Mapping[str, NDArray[np.float32]], output: str
    ) -> Batches:
        """Run what is left, and return `output` in batches; the walk stays where it is.

        Some of the tensors at hand have other `values` meanwhile, and some initialisers are other
        `constants`.
        """
        from onnx import numpy_helper

        rest = part(self.model, self.nodes[self.position :], self._types(), [output])
        for tensor in rest.graph.initializer:
            if tensor.name in constants:
                tensor.CopyFrom(numpy_helper.from_array(constants[tensor.name], tensor.name))
        opened = session(rest, self.threads)
        read = [value.name for value in opened.get_inputs()]
        known = {name: values.get(name, self.values[name]) for name in read}
        count = len(next(iter(self.values.values())))
        return [opened.run([output], {name: known[name][i] for name in read})[0] for i in range(count)]

    def _types(self) -> dict[str, np.dtype[Any]]:
        return {name: np.asarray(self.values[name][0]).dtype for name in sorted(self.values)}

    def _index(self, node_name: str) -> int:
        return next(i for i in range(self.position, len(self.nodes)) if self.nodes[i].name == node_name)

    def _run(self, end: int, result: str) -> Batches:
        run, later = self.nodes[self.position : end], self.nodes[end:]
        wanted = {name for node in later for name in node.input} | {result}
        made = sorted(wanted & {name for node in run for name in node.output})
        opened = session(part(self.model, run, self._types(), made), self.threads)
        inputs = [value.name for value in opened.get_inputs()]
        fresh: dict[str, Batches] = {name: [] for name in made}
        count = len(next(iter(self.values.values())))
        # Lists of our own, so that a batch that nothing reads any more is gone before the next is made.
        held = {name: list(values) for name, values in self.values.items()}
        spent = [name for name in held if name not in wanted]
        self.values = {}
        for index in range(count):
            answers = opened.run(made, {name: held[name][index] for name in inputs})
            for name in spent:
                held[name][index] = EMPTY
            for name, value in zip(made, answers, strict=True):
                fresh[name].append(value)
        self.values = {name: value for name, value in (held | fresh).items() if name in wanted}
        self.position = end
        return fresh[result] if result in fresh else list(self.values[result])
