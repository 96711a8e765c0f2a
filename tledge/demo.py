"""The whole job on real images with no download: scikit-learn's 1797 handwritten digits.

Each step is the function that its command calls, with that command's defaults but for the input's size, and
the bench's duration.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge.bundle import Bundle
from tledge.errors import MachineError
from tledge.progress import Progress

VAL_SHARE = 5  # every fifth image of a class, in the data set's own order, is held out for scoring


@dataclass(frozen=True)
class Demo:
    """What the demo made: the bundle, the bench's result, one prediction, and the seconds of each step."""

    bundle: Bundle
    bench: dict[str, Any]
    prediction: dict[str, Any]
    seconds: dict[str, float]


def write_digits(folder: Path) -> int:
    """Write the digits as 8 x 8 grey PNG files to `folder/{train,val}/DIGIT/` and return how many there are.

    Raises:
        MachineError: scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MachineError(
            "the demo's images come with scikit-learn", hint='pip install "tledge[train]"'
        ) from error
    from PIL import Image

    digits = load_digits()
    seen: dict[int, int] = {}
    for index, (pixels, digit) in enumerate(zip(digits.images, digits.target.tolist(), strict=True)):
        seen[digit] = seen.get(digit, 0) + 1
        part = "val" if seen[digit] % VAL_SHARE == 0 else "train"
        place = folder / part / str(digit)
        place.mkdir(parents=True, exist_ok=True)
        # The set's values are 0 to 16.
        Image.fromarray((pixels * 255 / 16).round().astype("uint8")).save(place / f"{index:04d}.png")
    return len(digits.images)


def run(folder: Path, progress: Progress, *, force: bool = False) -> Demo:
    """Do the whole job in `folder`: images, bundle, INT8, scores, bench, one prediction.

    Raises:
        MachineError: a package is missing.
        UsageError: a bundle is in the way and `force` is not given.
    """
    from tledge import bench
    from tledge.data import find
    from tledge.quantization import CalibrateSettings, calibrate
    from tledge.runtime import load
    from tledge.training import FinetuneSettings, finetune

    seconds: dict[str, float] = {}

    def timed(name: str, started: float) -> None:
        seconds[name] = round(time.monotonic() - started, 1)

    started = time.monotonic()
    count = write_digits(folder / "digits")
    progress.note(f"1. {count} handwritten digits are in {folder / 'digits'}")
    timed("images", started)

    progress.note("2. fine-tuning, export and scores")
    started = time.monotonic()
    # The digits are 8 x 8 pixels: a larger input would only take longer.
    settings = FinetuneSettings(image_size=96)
    bundle = finetune(find(folder / "digits"), folder / "digits.tledge", settings, progress, force=force)
    timed("finetune", started)

    progress.note("3. INT8 and FP16")
    started = time.monotonic()
    calibrate(bundle, settings=CalibrateSettings(), progress=progress)
    timed("calibrate", started)

    progress.note("4. bench, from file bytes to label")
    started = time.monotonic()
    bundle = Bundle.open(bundle.path)
    result = bench.run(bundle, duration=5.0)
    timed("bench", started)

    started = time.monotonic()
    image = sorted((folder / "digits" / "val" / "7").iterdir())[0]
    prediction = load(bundle.path).predict(image).as_dict()
    timed("predict", started)
    return Demo(bundle, result, prediction, seconds)
