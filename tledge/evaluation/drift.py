"""Do images from the field look like those that the network was made for? `tledge drift`.

Both are compared by the features that the last layer reads, with the bundle's eval images standing for what
the network was made for. Whether they differ is told by the energy distance with a permutation test (G. J.
Szekely and M. L. Rizzo, "Energy statistics: a class of statistics based on distances", J. Stat. Plan.
Inference 143, 2013): no form of distribution is assumed, and the p-value is exact. Which images are strange
is told by how far their nearest neighbours are among the eval images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tledge.bundle import Bundle
from tledge.data import Sample, decode, image_files
from tledge.data.ahead import ordered
from tledge.errors import BundleError, InputError
from tledge.evaluation.images import Readable, of_bundle
from tledge.preprocess import Preprocessor, preprocessor
from tledge.progress import Progress
from tledge.runtime import Session, open_session

if TYPE_CHECKING:
    from onnx import ModelProto

Floats = NDArray[np.float64]
Drawn = TypeVar("Drawn")

IMAGES = 500  # of each side at most: a million distances, and differences far below what matters are seen
PERMUTATIONS = 999
NEIGHBOURS = 5
LEAST = 8  # images a side; fewer can hardly be told from anything
SURE = 0.01
BATCH = 4


@dataclass(frozen=True)
class Stranger:
    """An image with its distance from its nearest eval images.

    `beyond` is the percentage of the eval images that have their own nearest ones nearer.
    """

    file: str
    distance: float
    beyond: float


@dataclass(frozen=True)
class Share:
    """How often an answer is given, in percent: in the field, and on the eval images."""

    label: str
    field: float
    reference: float


@dataclass(frozen=True)
class Drift:
    """What was found; see `tledge.evaluation.drift`.

    `distance` is the energy distance (0: alike), `usual` its median with the two sides shuffled, `p_value`
    the share of shufflings with one as large. `skipped` names images that could not be read, and why.
    """

    images: int
    reference: int
    distance: float
    usual: float
    p_value: float
    strangers: tuple[Stranger, ...]
    answers: tuple[Share, ...]
    skipped: tuple[tuple[str, str], ...]

    @property
    def drifted(self) -> bool:
        """Tell whether the images differ beyond chance."""
        return self.p_value <= SURE

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `tledge drift --json` prints."""
        skipped = [{"file": file, "error": why} for file, why in self.skipped]
        return {**dataclasses.asdict(self), "drifted": self.drifted, "skipped": skipped}


def drift(
    bundle: Bundle, folder: Path, *, seed: int = 0, worst: int = 10, progress: Progress | None = None
) -> Drift:
    """Compare the images below `folder`, which need no labels, with the bundle's eval images.

    Args:
        bundle: A bundle with an `fp32` variant and eval images.
        folder: Images from the field.
        seed: Of the images that are drawn where there are many, and of the shufflings.
        worst: How many of the strangest images to name.
        progress: Where to show how far it is.

    Raises:
        InputError: too few images on either side.
        BundleError: there is no `fp32.onnx`, or it is damaged.
    """
    progress = progress or Progress.silent()
    if not bundle.has("fp32.onnx"):
        raise BundleError(f"{bundle.path} has no fp32.onnx to compare images with", path=bundle.path)
    rng = np.random.default_rng(seed)
    ours = drawn(of_bundle(bundle).images, rng)
    theirs = drawn([Sample(str(p.relative_to(folder)), 0, p) for p in image_files(folder)], rng)
    model, head = features_graph(bundle.read("fp32.onnx"))
    session = open_session(model.SerializeToString(), shape=bundle.spec.shape)
    prepare = preprocessor(bundle.spec, using="host")
    field, names, skipped = _features(session, prepare, theirs, progress, "looking at the field's images")
    known, _, broken = _features(session, prepare, ours, progress, "looking at the eval images")
    if broken:
        raise InputError(f"the eval image {broken[0][0]} cannot be read: {broken[0][1]}", path=bundle.path)
    for what, found in ((f"in {folder}", field), (f"among the eval images of {bundle.path}", known)):
        if len(found) < LEAST:
            raise InputError(
                f"{len(found)} images {what} are too few to compare", hint=f"It takes {LEAST} or more."
            )
    distances = _distances(np.concatenate([field, known]), known)
    distance, usual, p_value = energy_test(distances, len(field), rng)
    return Drift(
        images=len(field),
        reference=len(known),
        distance=distance,
        usual=usual,
        p_value=p_value,
        strangers=_strangers(distances, names, worst),
        answers=_answers(bundle.labels, head(field), head(known)),
        skipped=tuple(skipped),
    )


def energy_test(distances: Floats, first: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return the energy distance of two samples, its median under shuffling, and the p-value.

    Args:
        distances: Between all, N x N: the first sample's `first` rows, then the second's.
        first: The number of the first sample.
        rng: Shuffles.
    """
    count = len(distances)
    sides = np.zeros((count, PERMUTATIONS + 1))
    sides[:first, 0] = 1
    for column in range(1, PERMUTATIONS + 1):
        sides[rng.permutation(count)[:first], column] = 1
    # Sums of the distances between the sides and within each, of all shufflings by one product.
    reach = distances @ sides
    within_first = (sides * reach).sum(axis=0)
    across = ((1 - sides) * reach).sum(axis=0)
    within_second = distances.sum() - within_first - 2 * across
    second = count - first
    energy = 2 * across / (first * second) - within_first / first**2 - within_second / second**2
    # Equal ones count as as large; rounding must not decide.
    beyond = int((energy[1:] >= energy[0] - 1e-12).sum())
    return float(max(energy[0], 0.0)), float(np.median(energy[1:])), (beyond + 1) / (PERMUTATIONS + 1)


def features_graph(data: bytes) -> tuple[ModelProto, Any]:
    """Return the graph up to what its last layer reads, and a function from that to logits.

    Where the last layer is no matrix product with constant weights, these are the logits themselves.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(data)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    last = next((node for node in graph.node if graph.output[0].name in node.output), None)
    if last is None or last.op_type != "Gemm" or last.input[1] not in weights:
        return model, lambda features: features
    given = {entry.name: helper.get_attribute_value(entry) for entry in last.attribute}
    weight = numpy_helper.to_array(weights[last.input[1]]).astype(np.float64)
    if given.get("transB", 0):
        weight = weight.T
    offset: Any = 0.0
    if len(last.input) > 2 and last.input[2] in weights:
        offset = numpy_helper.to_array(weights[last.input[2]]).astype(np.float64)
    del graph.output[:]
    port = helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, ["N", weight.shape[0]])
    graph.output.append(port)
    graph.node.remove(last)
    return model, lambda features: features @ weight + offset


def drawn(images: Sequence[Drawn], rng: np.random.Generator) -> list[Drawn]:
    """Return at most `IMAGES` of the images, drawn at random, in their order."""
    return [images[index] for index in sorted(rng.permutation(len(images))[:IMAGES].tolist())]


def _features(
    session: Session, prepare: Preprocessor, images: Sequence[Readable], progress: Progress, title: str
) -> tuple[Floats, list[str], list[tuple[str, str]]]:
    """Return the features of the images that can be read, their names, and what is wrong with the others."""
    found: list[NDArray[Any]] = []
    names: list[str] = []
    skipped: list[tuple[str, str]] = []

    def tensor(image: Readable) -> NDArray[Any] | InputError:
        try:
            return decode.tensor(image.read(), prepare, name=image.name)
        except InputError as error:
            return error

    with progress.task(title, total=len(images)) as task:
        tensors = zip(images, ordered(tensor, images, ahead=8 * BATCH), strict=True)
        while part := list(islice(tensors, BATCH)):
            skipped += [(image.name, made.message) for image, made in part if isinstance(made, InputError)]
            good = [(image.name, made) for image, made in part if not isinstance(made, InputError)]
            names += [name for name, _ in good]
            if good:
                found.append(session.run(np.stack([made for _, made in good])))
            task.advance(len(part))
    rows = np.concatenate(found).astype(np.float64) if found else np.empty((0, 1))
    return rows, names, skipped


def _distances(rows: Floats, known: Floats) -> Floats:
    """Return the distances between all rows, in standard deviations of the known images' features."""
    spread = known.std(axis=0)
    alive = spread > 1e-6 * max(float(spread.max()), 1e-30)
    scaled = (rows[:, alive] - known[:, alive].mean(axis=0)) / (spread[alive] * np.sqrt(alive.sum()))
    squares = (scaled**2).sum(axis=1)
    found = np.maximum(squares[:, None] + squares[None] - 2 * scaled @ scaled.T, 0.0)
    np.fill_diagonal(found, 0.0)
    distances: Floats = np.sqrt(found)
    return distances


def _strangers(distances: Floats, names: Sequence[str], worst: int) -> tuple[Stranger, ...]:
    first = len(names)
    nearest = np.sort(distances[:first, first:], axis=1)[:, :NEIGHBOURS].mean(axis=1)
    # An eval image is its own nearest one.
    own = np.sort(distances[first:, first:], axis=1)[:, 1 : NEIGHBOURS + 1].mean(axis=1)
    order = np.argsort(-nearest, kind="stable")[:worst]
    return tuple(
        Stranger(names[index], float(nearest[index]), float(100 * (own < nearest[index]).mean()))
        for index in order.tolist()
    )


def _answers(labels: Sequence[str], field: Floats, known: Floats) -> tuple[Share, ...]:
    shares = [
        100 * np.bincount(logits.argmax(axis=1), minlength=len(labels)) / len(logits)
        for logits in (field, known)
    ]
    return tuple(
        Share(label, float(here), float(there))
        for label, here, there in zip(labels, *shares, strict=False)
        if here or there
    )
