"""Fixtures that several parts of the tests share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# What tests keep for later runs is not the user's.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="tledge-cache-")

# Several workers share the cores: more threads in each would wait for one another, spinning.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, and no deadline: speed is not tested, and the machine may be busy.
settings.register_profile("tledge", derandomize=True, deadline=None)
settings.load_profile("tledge")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes long first, so that the workers end together."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real images and weights beside the checkout; skip where it is missing."""
    folder = Path(os.environ.get("TLEDGE_SHARED", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder} (set TLEDGE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small data set of real photos: crops of the two that scikit-learn carries, as JPEG files.

    photos/train/{china,flower}: 24 each; photos/val: 8 each, from the other half of each photo.
    """
    datasets = pytest.importorskip("sklearn.datasets")
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("data") / "photos"
    random = np.random.default_rng(0)
    for name in ("china", "flower"):
        photo = datasets.load_sample_image(f"{name}.jpg")
        middle = photo.shape[1] // 2
        for split, count, half in (("train", 24, photo[:, :middle]), ("val", 8, photo[:, middle:])):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                height, width = random.integers(90, 200, 2)
                top = random.integers(0, half.shape[0] - height)
                left = random.integers(0, half.shape[1] - width)
                crop = half[top : top + height, left : left + width]
                Image.fromarray(crop).save(folder / f"{index:02d}.jpg", quality=90)
    return root
