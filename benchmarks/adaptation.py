"""What `tledge drift --adapt` gains on a shifted camera, and what it costs on the old one.

    python benchmarks/adaptation.py flowers.tledge gtsrb.tledge

300 of the bundle's eval images are shown at a third of their brightness, and blurred, as JPEGs of quality
95; their labels only score. The peer is the rule of Schneider et al. (2020): each batch norm takes the
field's own statistics, blended with those in force by N = 16.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from drift import CHANGES
from PIL import Image

from tledge.bundle import Bundle
from tledge.evaluation.images import EvalSet, Readable, of_bundle
from tledge.models import Network, load
from tledge.preprocess import preprocessor
from tledge.progress import Progress
from tledge.training import adapt
from tledge.training.adapted import train_images
from tledge.training.device import choose
from tledge.training.scores import torch_logits

QUIET = Progress.silent()
MOST = 300  # eval images of a bundle, drawn at random: the intervals are then 3 to 5 points to each side


@dataclass(frozen=True)
class Shifted:
    """An image as the shifted camera sees it."""

    image: Readable
    change: Callable[[Image.Image], Image.Image]

    @property
    def name(self) -> str:
        """Return its name."""
        return self.image.name

    def read(self) -> bytes:
        """Return the JPEG's bytes."""
        file = io.BytesIO()
        self.change(Image.open(io.BytesIO(self.image.read())).convert("RGB")).save(file, "JPEG", quality=95)
        return file.getvalue()


def by_the_paper(network: Network, field: adapt.Batches) -> None:
    """Put the field's own statistics into the batch norms, blended with those that are there."""
    layers = adapt.norms(network)
    own = adapt.statistics(layers)
    share = len(field.images) / (adapt.PRIOR + len(field.images))

    def blend(index: int, found: adapt.Moments) -> None:
        adapt.put(layers[index], own[index].towards(found, share))

    found, _ = adapt.measure(network, layers, field, blend)
    for index, moments in enumerate(found):
        blend(index, moments)


def drawn(images: EvalSet) -> EvalSet:
    """Return at most MOST of the images."""
    chosen = sorted(np.random.default_rng(0).permutation(len(images))[:MOST].tolist())
    return EvalSet(
        tuple(images.images[index] for index in chosen),
        tuple(images.labels[index] for index in chosen),
        tuple(images.sha256[index] for index in chosen),
        images.classes,
    )


def main(paths: list[str]) -> None:
    """Print the table."""
    device = choose("auto")
    print(
        "| bundle | shift | images | before | paper's rule | adapted | eval before | paper's rule | adapted |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for path in paths:
        bundle = Bundle.open(path)
        prepare = preprocessor(bundle.spec, "host")
        images, known = drawn(of_bundle(bundle)), train_images(bundle, 0)
        weights = bundle.read("model.safetensors")

        def top1(network: Network, some: EvalSet) -> str:
            logits = torch_logits(network, some, prepare, device, QUIET)  # noqa: B023
            return f"{100 * (logits.argmax(axis=1) == some.expected).mean():.2f}"

        for words, change in list(CHANGES.items())[1:]:
            seen = EvalSet(
                tuple(Shifted(image, change) for image in images.images),
                images.labels,
                images.sha256,
                images.classes,
            )
            field = adapt.Batches(seen.images, prepare, device, QUIET, "", 0)
            before, paper, after = (load(weights) for _ in range(3))
            by_the_paper(paper, field)
            adapt.match(after, adapt.Batches(known, prepare, device, QUIET, "", 0), field)
            cells = [top1(one, some) for some in (seen, images) for one in (before, paper, after)]
            print(f"| {Path(path).stem} | {words} | {len(seen)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main(sys.argv[1:])
