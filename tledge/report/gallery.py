"""Pictures of what went wrong: the bundle's own eval images as small thumbnails inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field

import numpy as np

from tledge.bundle import EvalImage, Row
from tledge.data import decode
from tledge.errors import InputError
from tledge.report.evidence import Answers, Evidence
from tledge.report.text import clean

THUMBNAIL = (
    120  # pixels on the longer side: about 4 KB a JPEG, so that a hundred of them stay far under the limit
)
QUALITY = 70
MOST_FLIPS = 12  # a stage
MOST_ERRORS = 24


@dataclass(frozen=True)
class Picture:
    """One image with what it shows and what was answered.

    `source` is a data URI, "" if the image cannot be decoded; `lines` say who answered, what, and how surely.
    """

    source: str
    width: int
    height: int
    enlarged: bool
    name: str
    truth: str
    lines: tuple[tuple[str, str, str], ...]
    right: tuple[bool, ...]
    seen: str = ""  # what the network saw, red where it saw its answer: a data URI, "" without a map

    @property
    def description(self) -> str:
        """Return what a person who cannot see the image is told."""
        said = ", ".join(f"{who} answered {label} ({percent})" for who, label, percent in self.lines)
        return f"An image of {self.truth}: {said}"


@dataclass
class Gallery:
    """Makes pictures of eval images, each decoded at most once."""

    evidence: Evidence
    _thumbnails: dict[str, tuple[str, int, int]] = field(default_factory=dict)

    def picture(self, index: int, said: tuple[tuple[str, Answers], ...]) -> Picture:
        """Return eval image `index` with the answer of each of `said` (what to call it, its answers)."""
        image = self.evidence.images[index]
        if image.file not in self._thumbnails:
            self._thumbnails[image.file] = self._thumbnail(image)
        source, width, height = self._thumbnails[image.file]
        lines = tuple(
            (
                who,
                clean(self.evidence.labels[answers.best[index]]),
                f"{answers.confidence[index]:.1%}",
            )
            for who, answers in said
        )
        right = tuple(bool(answers.best[index] == image.label) for _, answers in said)
        truth = clean(self.evidence.labels[image.label])
        enlarged = source.startswith("data:image/png")
        return Picture(source, width, height, enlarged, clean(image.name, 60), truth, lines, right)

    def _thumbnail(self, image: EvalImage) -> tuple[str, int, int]:
        from PIL import Image

        bundle = self.evidence.bundle
        spec = bundle.spec if bundle.has("preprocess.json") else None
        try:
            pixels = decode.image(bundle.read(image.file), spec=spec, name=image.name)
        except InputError:
            return "", THUMBNAIL, THUMBNAIL
        small = Image.fromarray(pixels)
        small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
        # The browser enlarges what is tiny by a whole number; JPEG would blur it.
        larger = max(1, THUMBNAIL // max(small.size))
        kind, options = ("png", {}) if larger > 1 else ("jpeg", {"quality": QUALITY})
        file = io.BytesIO()
        small.save(file, format=kind, optimize=True, **options)
        encoded = base64.b64encode(file.getvalue()).decode("ascii")
        return f"data:image/{kind};base64,{encoded}", larger * small.width, larger * small.height


@dataclass(frozen=True)
class Flips:
    """The images that a stage answers otherwise than its parent: how many, how it came out, the first few."""

    stage: str
    parent: str
    count: int
    lost: int
    gained: int
    pictures: tuple[Picture, ...]


def flips(gallery: Gallery, row: Row) -> Flips | None:
    """Return where `row`'s stage and its parent disagree, the surest changes first; None without parent."""
    evidence = gallery.evidence
    own, parent = evidence.answers.get(row.stage), evidence.parent(row)
    if own is None or parent is None:
        return None
    changed = np.flatnonzero(own.best != parent.best)
    was_right = parent.best[changed] == evidence.truth[changed]
    is_right = own.best[changed] == evidence.truth[changed]
    # What was right and is wrong now comes first; among those, where both were surest.
    sure = np.minimum(own.confidence[changed], parent.confidence[changed])
    order = changed[np.lexsort((changed, -sure, ~was_right))]
    said = (("before", parent), ("now", own))
    return Flips(
        clean(row.stage),
        clean(row.parent),
        len(changed),
        int((was_right & ~is_right).sum()),
        int((is_right & ~was_right).sum()),
        tuple(gallery.picture(int(index), said) for index in order[:MOST_FLIPS]),
    )
