"""A small data set of real digits, and settings that train a tiny network on it in a second or two."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tledge.training import FinetuneSettings

QUICK = FinetuneSettings(
    backbone="tledge:cnn", image_size=16, epochs=3, batch_size=16, device="cpu", workers=2, cache=False
)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 120 training and 40 val images of four digits."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("digits")
    data = load_digits(n_class=4)
    seen: dict[int, int] = {}
    for index, (pixels, digit) in enumerate(zip(data.images, data.target.tolist(), strict=True)):
        seen[digit] = seen.get(digit, 0) + 1
        if seen[digit] > 40:
            continue
        place = folder / ("val" if seen[digit] % 4 == 0 else "train") / str(digit)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).round().astype("uint8")).save(place / f"{index:04d}.png")
    return folder
