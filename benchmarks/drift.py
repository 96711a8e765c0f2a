"""What `tledge drift` says of photos that did not change, and of photos that did.

    python benchmarks/drift.py flowers.tledge ../shared/data/flowers/train OTHER

Every thirtieth photo of the folder is shown as it is, at a third of its brightness, and blurred; OTHER is a
folder of photos of something else. Prints the energy distance, what chance gives, and the p-value.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageEnhance, ImageFilter

from tledge.bundle import Bundle
from tledge.data import image_files
from tledge.evaluation.drift import drift

EVERY = 30
CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as they are": lambda photo: photo,
    "a third of the brightness": lambda photo: ImageEnhance.Brightness(photo).enhance(1 / 3),
    "blurred by three pixels": lambda photo: photo.filter(ImageFilter.GaussianBlur(3)),
}


def main(path: str, folder: str, other: str) -> None:
    """Print the table."""
    bundle = Bundle.open(path)
    photos = image_files(Path(folder))[::EVERY]
    print("| photos | number | energy distance | by chance | p |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        places = {}
        for number, (words, change) in enumerate(CHANGES.items()):
            places[words] = Path(name) / str(number)
            places[words].mkdir()
            for index, photo in enumerate(photos):
                changed = change(Image.open(photo).convert("RGB"))
                changed.save(places[words] / f"{index}.jpg", quality=95)
        for words, place in {**places, f"of {Path(other).name}": Path(other)}.items():
            found = drift(bundle, place)
            print(
                f"| {words} | {found.images} | {found.distance:.4f} | {found.usual:.4f} "
                f"| {found.p_value:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:4])
