"""The worst errors: which images were answered wrongly most surely, and what the network looked at."""

from __future__ import annotations

import base64
import dataclasses
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tledge.data import decode
from tledge.errors import InputError
from tledge.evaluation import attention
from tledge.evaluation.attention import Attention
from tledge.preprocess import preprocessor
from tledge.report.evidence import Answers
from tledge.report.gallery import MOST_ERRORS, QUALITY, THUMBNAIL, Gallery, Picture

RED = np.array((255, 45, 20), np.float64)
STRONGEST = 0.75  # of the colour where the map is brightest: the image stays to be seen


@dataclass(frozen=True)
class Errors:
    """How many answers are wrong, the first of them, and why they have no maps ("" where some have)."""

    wrong: int
    pictures: tuple[Picture, ...]
    without_maps: str

    @property
    def mapped(self) -> int:
        """Return how many of the pictures have a map."""
        return sum(bool(picture.seen) for picture in self.pictures)


def worst_errors(gallery: Gallery, answers: Answers) -> Errors:
    """Return the images where a wrong answer was given most surely, with the maps that the bundle keeps.

    The maps are of the float network; they are shown where this stage gave the same answer.
    """
    evidence = gallery.evidence
    wrong = np.flatnonzero(answers.best != evidence.truth)
    order = wrong[np.lexsort((wrong, -answers.confidence[wrong]))][:MOST_ERRORS].tolist()
    found = attention.read(evidence.bundle)
    maps = {} if found is None else _maps(found)
    pictures = []
    for index in order:
        picture = gallery.picture(index, (("answered", answers),))
        kept = maps.get((evidence.images[index].file, int(answers.best[index])))
        if kept is not None and picture.source:
            picture = dataclasses.replace(picture, seen=_drawn(gallery, index, kept))
        pictures.append(picture)
    if found is None:
        why = "they are made when a network is trained"
    else:
        why = found.layer if found.maps is None else ""
    return Errors(len(wrong), tuple(pictures), why)


def _maps(found: Attention) -> dict[tuple[str, int], NDArray[np.uint8]]:
    if found.maps is None:
        return {}
    both = zip(found.errors, found.maps, strict=True)
    return {(one.file, one.answer): kept for one, kept in both}


def _drawn(gallery: Gallery, index: int, kept: NDArray[np.uint8]) -> str:
    """Return what the network saw of an image, grey, with the map over it in red, as a data URI."""
    from PIL import Image

    bundle, image = gallery.evidence.bundle, gallery.evidence.images[index]
    try:
        pixels = decode.image(bundle.read(image.file), spec=bundle.spec, name=image.name)
    except InputError:
        return ""
    seen = Image.fromarray(preprocessor(bundle.spec).pixels(pixels))
    scale = THUMBNAIL / max(seen.size)
    size = max(1, round(seen.width * scale)), max(1, round(seen.height * scale))
    grey = np.asarray(seen.resize(size, Image.Resampling.BOX).convert("L"), np.float64)[..., None]
    share = np.asarray(Image.fromarray(kept).resize(size, Image.Resampling.BILINEAR), np.float64)
    weight = STRONGEST * share[..., None] / 255
    file = io.BytesIO()
    mixed = (grey * (1 - weight) + RED * weight).round().astype(np.uint8)
    Image.fromarray(mixed).save(file, format="jpeg", optimize=True, quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
