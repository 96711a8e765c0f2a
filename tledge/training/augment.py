"""Random views of a training image, each drawn from (seed, epoch, index) alone.

So a run repeats exactly whatever the number of workers, and a resumed one goes on with the same views.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps, ImageStat

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Augmentation:
    """How strongly images are varied.

    Attributes:
        min_area: the smallest part of the image's area that a random crop may show, in (0, 1].
        flip: whether images are mirrored left to right half of the time.
        operations: how many operations of RandAugment an image gets.
        magnitude: their strength, 0 to 1.
        squash: whether the spec shows the whole image whatever its shape; crops then vary about that shape.
    """

    min_area: float
    flip: bool
    operations: int
    magnitude: float
    squash: bool = False


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the random numbers of one image in one epoch."""
    return np.random.default_rng((seed, epoch, index))


def view(image: Pixels, side: tuple[int, int], how: Augmentation, rng: np.random.Generator) -> Pixels:
    """Return a random view, uint8 of `side` (height, width) x 3, of `image`, uint8 H x W x 3."""
    picture = Image.fromarray(image)
    shape = picture.width / picture.height if how.squash else 1.0
    box = random_crop(picture.size, how.min_area, rng, shape)
    picture = picture.resize((side[1], side[0]), Image.Resampling.BILINEAR, box=box)
    if how.flip and rng.random() < 0.5:
        picture = ImageOps.mirror(picture)
    for operation in rng.choice(len(OPERATIONS), size=how.operations):
        # Half of the strengths point the other way: darker as often as lighter.
        picture = OPERATIONS[operation](picture, how.magnitude * rng.uniform(-1, 1))
    return np.asarray(picture)


def random_crop(
    size: tuple[int, int], min_area: float, rng: np.random.Generator, shape: float = 1.0
) -> tuple[float, float, float, float]:
    """Return a box (left, top, right, bottom) of random area and shape in an image of `size` (width, height).

    Szegedy et al. (2015): area uniform in [min_area, 1], aspect ratio log-uniform in [3/4, 4/3] times `shape`
    (width to height), ten tries, then the largest box of that shape in the middle. In floats: the resampler
    takes parts of pixels, which matters where an image has eight of them.
    """
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(min_area, 1)
        ratio = shape * math.exp(rng.uniform(-1, 1) * math.log(4 / 3))
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= width and h <= height:
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return left, top, left + w, top + h
    w, h = min(width, height * shape), min(height, width / shape)
    left, top = (width - w) / 2, (height - h) / 2
    return left, top, left + w, top + h


def _mean_colour(picture: Any) -> tuple[int, ...]:
    # From the histogram, which is several times faster than adding up all pixels.
    return tuple(int(mean) for mean in ImageStat.Stat(picture).mean)


def _affine(picture: Any, coefficients: tuple[float, ...]) -> Any:
    return picture.transform(
        picture.size,
        Image.Transform.AFFINE,
        coefficients,
        Image.Resampling.BILINEAR,
        fillcolor=_mean_colour(picture),
    )


def _shear_x(picture: Any, strength: float) -> Any:
    slope = 0.3 * strength
    return _affine(picture, (1, slope, -slope * picture.height / 2, 0, 1, 0))


def _shear_y(picture: Any, strength: float) -> Any:
    slope = 0.3 * strength
    return _affine(picture, (1, 0, 0, slope, 1, -slope * picture.width / 2))


def _rotate(picture: Any, strength: float) -> Any:
    return picture.rotate(30 * strength, Image.Resampling.BILINEAR, fillcolor=_mean_colour(picture))


def _equalise(picture: Any, strength: float) -> Any:
    return Image.blend(picture, ImageOps.equalize(picture), abs(strength))


def _contrast_stretch(picture: Any, strength: float) -> Any:
    return Image.blend(picture, ImageOps.autocontrast(picture), abs(strength))


def _enhance(kind: Any) -> Callable[[Any, float], Any]:
    return lambda picture, strength: kind(picture).enhance(1 + 0.9 * strength)


# Cubuk et al. (2020) without the operations that destroy small or grey images (posterise, solarise, invert)
# and without translations, which random crops make already.
OPERATIONS: tuple[Callable[[Any, float], Any], ...] = (
    _shear_x,
    _shear_y,
    _rotate,
    _equalise,
    _contrast_stretch,
    _enhance(ImageEnhance.Brightness),
    _enhance(ImageEnhance.Contrast),
    _enhance(ImageEnhance.Color),
    _enhance(ImageEnhance.Sharpness),
)
