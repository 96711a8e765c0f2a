"""What answers the queries of a run: the steps of `Model`, with a time stamp after each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tledge.bench.device import Batches
from tledge.bench.load import Query
from tledge.runtime import Model

SOURCES = ("jpeg", "pixels", "tensor")
STAGES = ("decode", "preprocess", "upload", "infer", "download", "postprocess")


def timed(source: str, takes_pixels: bool = False) -> tuple[str, ...]:
    """Return the stages of a query that starts from `source`, as far as they can be told apart.

    On a CPU nothing is up- or downloaded. A device that `takes_pixels` does all from upload to the best
    classes in one graph, which is "infer" here (`tledge.bench.device` tells its parts).
    """
    if takes_pixels and source == "pixels":
        return ("infer", "postprocess")
    return ("decode", "preprocess", "infer", "postprocess")[SOURCES.index(source) :]


def starts(model: Model, files: Sequence[bytes], source: str) -> list[Any]:
    """Return the images as a query of `source` takes them: a file's bytes, its pixels, or its tensor."""
    if source == "pixels":
        return [model.pixels(file) for file in files]
    return [model.preprocess(file) for file in files] if source == "tensor" else list(files)


def batches(model: Model, images: Sequence[Any], source: str) -> Batches:
    """Return what answers queries on a device that lends its memory."""
    return Batches(model, images, source, timed(source, model.session.takes_pixels))


def queries(model: Model, images: Sequence[Any], source: str) -> Query:
    """Return what answers a query of `images` (see `starts`), with a time stamp after each stage of `timed`.

    The images of a query are decoded and preprocessed one by one, and run together: the stamp of "decode" is
    when decoding would have ended, had all of it been done first.
    """
    if model.fills_in_place:
        return batches(model, images, source).query
    clock = time.perf_counter_ns

    def from_file(data: bytes, stamps: list[int]) -> NDArray[Any]:
        """Return the tensor; where a JPEG is read straight to it, the kernels say when decoding ended."""
        straight = model.straight(data, stamps)
        if straight is not None:
            return straight
        pixels = model.pixels(data)
        stamps.append(clock())
        return model.tensor([pixels])

    def from_pixels(pixels: NDArray[Any], stamps: list[int]) -> NDArray[Any]:
        return model.tensor([pixels])

    def from_tensor(tensor: NDArray[Any], stamps: list[int]) -> NDArray[Any]:
        return tensor

    steps: tuple[Callable[[Any, list[int]], NDArray[Any]], ...] = (from_file, from_pixels, from_tensor)
    begin = steps[SOURCES.index(source)]

    def logits(tensor: NDArray[Any]) -> NDArray[np.float32]:
        most = model.session.at_once(len(tensor))
        if most == len(tensor):
            return model.logits(tensor)
        parts = range(0, len(tensor), most)
        return np.concatenate([model.logits(tensor[part : part + most]) for part in parts])

    def query(positions: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        now = began = clock()
        decoding = 0
        tensors = []
        for position in positions:
            stamps: list[int] = []
            tensors.append(begin(images[position], stamps))
            if stamps:
                decoding += stamps[0] - now
                now = clock()
        tensor = tensors[0] if len(tensors) == 1 else np.concatenate(tensors)
        ended = [] if source != "jpeg" else [began + decoding]
        if source != "tensor":
            ended.append(clock())
        answers = logits(tensor)
        ended.append(clock())
        labels = [answer.index for answer in model.answers(answers, [b""] * len(answers))]
        ended.append(clock())
        return labels, ended  # type: ignore[return-value]  # the index is None only where there is an error

    return query
