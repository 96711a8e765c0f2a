"""How many answers the two orders of camera frames change: converted first, or planes resized first.

    python benchmarks/planes_first.py GRAPH.onnx DATA [--enlarge 3]

GRAPH takes N x 3 x 224 x 224, mean and std 0.5. DATA's photos lie in folders named after the class index;
each becomes a frame of 4:2:0 (BT.709, limited, left).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from tledge.preprocess import Spec, preprocessor
from tledge.preprocess.frames import LUMA_SHARES, Frame

SPEC = Spec()


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
    prepare, planes_first = preprocessor(SPEC), preprocessor(SPEC.with_frames("planes-first"))
    answers: dict[str, list[int]] = {"image": [], "converted first": [], "planes first": []}
    labels: list[int] = []
    apart: list[float] = []
    for file in sorted(data.rglob("*.jp*g")):
        image = Image.open(file).convert("RGB")
        size = (enlarge * image.width, enlarge * image.height)
        pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS) if enlarge > 1 else image)
        frame = frame_of(pixels)
        made = (prepare.pixels(pixels), prepare.pixels(frame), planes_first.pixels(frame))
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graph", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--enlarge", type=int, default=1)
    arguments = parser.parse_args()
    compare(arguments.graph, arguments.data, arguments.enlarge)


if __name__ == "__main__":
    main()
