"""What resampling a frame's planes before their conversion would change: answers, and time.

    python benchmarks/planes_first.py GRAPH.onnx DATA [--enlarge 3]
    python benchmarks/planes_first.py --time

GRAPH takes N x 3 x 224 x 224, mean and std 0.5. DATA's photos lie in folders named after the class index;
each becomes a frame of 4:2:0 (BT.709, limited, left). tledge converts first (docs/preprocessing.md). Here Y',
Cb and Cr are resampled first, each with the integers that images are resampled with (bilinear), and 224 x 224
pixels converted. `--time` runs tledge's kernels over as many samples and taps as planes have: the least that
such kernels would take.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tledge.preprocess import Crop, Spec, preprocessor
from tledge.preprocess.frames import LUMA_SHARES, PRECISION, Frame
from tledge.preprocess.geometry import window

BITS = 22
SPEC = Spec()


def coefficients(source: int, scale: float, begin: int, count: int, shift: float) -> np.ndarray:
    """Return the bilinear coefficients of an axis, outputs x source; `shift` is in source samples."""
    wide = max(scale, 1.0)
    centres = (begin + np.arange(count) + 0.5) * scale + shift
    weights = np.clip(1 - np.abs((np.arange(source) + 0.5 - centres[:, None]) / wide), 0, None)
    exact = weights / weights.sum(axis=1, keepdims=True)
    return np.floor(exact * (1 << BITS) + 0.5).astype(np.int64)


def resampled(plane: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Return a plane resampled horizontally, then vertically, each result rounded to 8 bits."""
    half = 1 << (BITS - 1)
    rows = np.clip((plane.astype(np.int64) @ across.T + half) >> BITS, 0, 255)
    return np.clip((down @ rows + half) >> BITS, 0, 255)


def planes_first(frame: Frame, spec: Spec) -> np.ndarray:
    """Return the pixels of a frame whose chroma lies on its columns and between its rows."""
    place = window(spec.geometry, frame.width, frame.height)
    across, down = frame.width / place.resized_width, frame.height / place.resized_height
    luma, *chroma = frame.planes
    y = resampled(
        luma,
        coefficients(frame.width, across, place.left, place.width, 0),
        coefficients(frame.height, down, place.top, place.height, 0),
    )
    rows, columns = chroma[0].shape
    # A chroma sample on a luma one lies a quarter of a chroma step further left than the middle of two.
    x_axis = coefficients(columns, across / 2, place.left, place.width, 0.25)
    y_axis = coefficients(rows, down / 2, place.top, place.height, 0)
    u, v = (resampled(plane, x_axis, y_axis) - 128 for plane in chroma)
    black, ly, rv, gu, gv, bu = frame.coefficients
    bright = (y - black) * ly + (1 << (PRECISION - 1))
    planes = [bright + rv * v, bright + gu * u + gv * v, bright + bu * u]
    return np.clip(np.stack(planes, axis=2) >> PRECISION, 0, 255).astype(np.uint8)


def frame_of(pixels: np.ndarray) -> Frame:
    """Return a photo as a camera would give it: I420, BT.709, limited, left."""
    height, width, _ = pixels.shape
    red, blue = LUMA_SHARES["bt709"]
    r, g, b = np.moveaxis(pixels.astype(float), 2, 0)
    y = red * r + (1 - red - blue) * g + blue * b

    def halved(chroma: np.ndarray) -> np.ndarray:
        even = np.pad(chroma, ((0, height % 2), (1, 1 + width % 2)), "edge")
        rows = (even[0::2] + even[1::2]) / 2
        return (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:])[:, ::2] / 4

    def levels(values: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)

    cb, cr = (halved((c - y) / (2 * (1 - share))) for c, share in ((b, blue), (r, red)))
    planes = (levels(16 + y * 219 / 255), levels(cb * 224 / 255 + 128), levels(cr * 224 / 255 + 128))
    return Frame("i420", width, height, planes, "bt709", "limited", "left")


def compare(graph: Path, data: Path, enlarge: int) -> None:
    """Print how many answers, and how much of the pixels, differ from those of conversion first."""
    import onnxruntime

    session = onnxruntime.InferenceSession(graph)
    name = session.get_inputs()[0].name
    prepare = preprocessor(SPEC)
    answers: dict[str, list[int]] = {"image": [], "converted first": [], "planes first": []}
    labels: list[int] = []
    apart: list[float] = []
    for file in sorted(data.rglob("*.jp*g")):
        image = Image.open(file).convert("RGB")
        size = (enlarge * image.width, enlarge * image.height)
        pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS) if enlarge > 1 else image)
        frame = frame_of(pixels)
        made = (prepare.pixels(pixels), prepare.pixels(frame), planes_first(frame, SPEC))
        apart.append(float(np.abs(made[1].astype(int) - made[2]).mean()))
        labels.append(int(file.parent.name))
        for answer, each in zip(answers.values(), made, strict=True):
            answer.append(int(session.run(None, {name: prepare.normalise(each)[None]})[0].argmax()))
    print(
        f"{graph.name}, {len(labels)} photos, enlarged {enlarge} times; mean difference {np.mean(apart):.2f}"
    )
    for way, found in answers.items():
        right = 100 * float(np.mean(np.equal(found, labels)))
        others = [int(np.not_equal(found, answers[of]).sum()) for of in ("image", "converted first")]
        print(
            f"{way}: top-1 {right:.2f} %, unlike the image's {others[0]}, unlike conversion first {others[1]}"
        )


def least(width: int, height: int, geometry: Crop, runs: int = 300) -> float:
    """Return the least milliseconds of an image of noise, one thread."""
    prepare = preprocessor(Spec(geometry))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    out, best = prepare(image), float("inf")
    for _ in range(runs):
        begun = time.perf_counter()
        prepare(image, out)
        best = min(best, time.perf_counter() - begun)
    return 1000 * best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graph", type=Path, nargs="?")
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--enlarge", type=int, default=1)
    parser.add_argument("--time", action="store_true")
    arguments = parser.parse_args()
    if arguments.time:
        # A plane of 1920 x 1080 has the samples of 640 x 1080 pixels; both of chroma those of 640 x 540.
        luma = least(640, 1080, Crop((256, 152), (224, 75)))
        chroma = least(640, 540, Crop((256, 303), (224, 149)))
        whole = least(1920, 1080, Crop(256, (224, 224)))
        print(f"luma {luma:.2f} ms, chroma {chroma:.2f} ms; the same image in RGB {whole:.2f} ms")
    elif arguments.graph and arguments.data:
        compare(arguments.graph, arguments.data, arguments.enlarge)
    else:
        parser.error("give GRAPH.onnx and DATA, or --time")


if __name__ == "__main__":
    main()
