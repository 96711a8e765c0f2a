"""Who takes part in a run, and on which images: everything that is decided before the first query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from tledge.bench.load import Query
from tledge.bench.queries import queries, starts
from tledge.bundle import Bundle
from tledge.bundle.files import sha256_bytes
from tledge.errors import InputError
from tledge.evaluation.images import data_sha256, of_bundle
from tledge.runtime import Model, open_model
from tledge.runtime.choose import choose

IMAGES = 128  # different images a run draws from: enough to defeat caches, little enough to be kept decoded


@dataclass(frozen=True)
class Images:
    """What a run draws from: file contents, and where they are among the bundle's eval images, if there.

    `sha256` is of the whole set that they were drawn from, as in the ledger.
    """

    files: tuple[bytes, ...]
    positions: tuple[int, ...] | None
    sha256: str


@dataclass(frozen=True)
class Candidate:
    """One of those that are compared: what it runs, and how many images each of its queries has."""

    variant: str
    backend: str
    threads: int | None
    per_query: int


@dataclass(frozen=True)
class Subject:
    """A loaded candidate: `query` answers its queries, drawn from `images` (see `queries.starts`)."""

    model: Model
    query: Query
    per_query: int
    images: Sequence[Any]


def images_of(bundle: Bundle, given: Sequence[bytes] | None, seed: int) -> Images:
    """Return the images to draw from, `given` or the bundle's. InputError: there are none."""
    if given is not None:
        if not given:
            raise InputError("the list of images is empty", hint="Give images to measure with.")
        digest = data_sha256((sha256_bytes(file), "") for file in given)
        return Images(tuple(given[i] for i in draw(len(given), seed)), None, digest)
    everything = bundle.eval_images()
    if not everything:
        raise InputError(
            f"{bundle.path} holds no eval images", hint="Give images to measure with.", path=bundle.path
        )
    drawn = draw(len(everything), seed)
    files = tuple(bundle.read(everything[i].file) for i in drawn)
    return Images(files, tuple(drawn), of_bundle(bundle).data_sha256)


def draw(count: int, seed: int) -> list[int]:
    """Return at most `IMAGES` of the numbers below `count`, drawn by `seed`, ascending."""
    return sorted(np.random.default_rng(seed).permutation(count)[:IMAGES].tolist())


def candidates(
    bundle: Bundle,
    variants: Sequence[str],
    backends: Sequence[str],
    threads: Sequence[int | None],
    per_query: Sequence[int],
) -> tuple[Candidate, ...]:
    """Return each combination once, with what "auto" stands for."""
    found = []
    for variant, backend, count, size in product(variants, backends, threads, per_query):
        where, what = choose(bundle, backend, variant)
        found.append(Candidate(what, where, count, size))
    return tuple(dict.fromkeys(found))


def loaded(bundle: Bundle, wanted: Sequence[Candidate], files: Sequence[bytes], source: str) -> list[Subject]:
    """Return the candidates, ready to run; those that differ in the size of a query share a model.

    All draw from the same images in memory: the specification is the bundle's, and so are the tensors.
    """
    models: dict[tuple[str, str, int | None], tuple[Model, Query]] = {}
    images: list[Any] = []
    found = []
    for one in wanted:
        key = (one.variant, one.backend, one.threads)
        if key not in models:
            model = open_model(bundle, one.backend, one.variant, threads=one.threads, reject_below=0.0)
            images = images or starts(model, files, source)
            models[key] = model, queries(model, images, source)
        found.append(Subject(*models[key], one.per_query, images))
    return found
