"""What an image would cost to decode, told from its header: a small file can ask for gigabytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from tledge.data import decode
from tledge.errors import InputError
from tledge.runtime import Prediction
from tledge.serving.limits import Limits

Predict: TypeAlias = "Callable[[Sequence[bytes]], Sequence[Prediction]]"

SCAN = b"\xff\xda"  # begins a scan of a JPEG; within a scan's own data 0xff is followed by 0


def check(data: bytes, bounds: Limits) -> None:
    """Look at an image's header.

    Raises:
        InputError: it is no image, has more pixels than allowed, or is a JPEG in so many scans that passing
            over its pixels again and again takes longer than decoding the largest image.
    """
    width, height = decode.open_image(data).size
    if width * height > bounds.pixels:
        raise InputError(
            f"the image is too large: {width} x {height} is more than {bounds.pixels / 1e6:g} megapixels",
            hint="Scale it down first.",
        )
    scans = data.count(SCAN) if data.startswith(b"\xff\xd8") else 1
    if width * height * scans > bounds.scanned:
        raise InputError(
            f"the image is {width} x {height} in {scans} scans: too much to decode", hint="Save it anew."
        )


def checked(predict: Predict, bounds: Limits) -> Predict:
    """Return `predict` for images that are looked at first; those refused get `error` instead of a label."""

    def predict_checked(images: Sequence[bytes]) -> list[Prediction]:
        refused: dict[int, Prediction] = {}
        for position, data in enumerate(images):
            try:
                check(data, bounds)
            except InputError as error:
                refused[position] = Prediction("", None, None, None, (), error.message)
        answers = iter(predict([data for place, data in enumerate(images) if place not in refused]))
        return [refused[place] if place in refused else next(answers) for place in range(len(images))]

    return predict_checked
