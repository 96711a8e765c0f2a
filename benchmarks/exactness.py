"""Compare the compiled kernels with the Pillow reference, byte for byte, on random geometries.

Images of 1 to 5000 pixels a side, made larger and smaller with every filter, with extreme aspect ratios and
crops at the edge, on every instruction set of this machine. Prints a Markdown table, and exits with 1 on any
difference:

    python benchmarks/exactness.py --count 10000

`--frames` compares camera frames of every Y'CbCr format instead, their planes resized first.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from typing import get_args

import numpy as np
import PIL

from tledge.preprocess import Box, Crop, Letterbox, Spec, preprocessor
from tledge.preprocess.frames import YUV, Frame, Matrix, Range, Siting, plane_shapes
from tledge.preprocess.native import instruction_sets
from tledge.preprocess.spec import Filter, Geometry

LARGEST_SIDE = 5000
LARGEST_OUTPUT = 512


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000, help="geometries (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", action="store_true", help="of cameras, planes first")
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    filters, sets = get_args(Filter), list(instruction_sets())
    noise = random.integers(0, 256, (LARGEST_SIDE + 1, LARGEST_SIDE, 3), np.uint8)
    compared, different = Counter[str](), Counter[tuple[str, str]]()
    begun = time.monotonic()
    for number in range(arguments.count):
        name = filters[number % len(filters)]
        image = random_frame(random, noise) if arguments.frames else random_image(random, noise)
        spec = Spec(geometry=random_geometry(random), filter=name).with_frames("planes-first")
        expected = preprocessor(spec, "pillow").pixels(image)
        compared[name] += 1
        for each in sets:
            os.environ["TLEDGE_INSTRUCTION_SET"] = each
            made = preprocessor(spec, threads=1 + number % 3).pixels(image)
            if not np.array_equal(made, expected):
                different[name, each] += 1
                print(f"{each} differs: {described(image)} {spec.to_json()}", file=sys.stderr)
    print(f"Pillow {PIL.__version__}, seed {arguments.seed}, {time.monotonic() - begun:.0f} s\n")
    print("| filter | geometries | " + " | ".join(f"{each}: differing" for each in sets) + " |")
    print("| --- | --- |" + " --- |" * len(sets))
    for name in filters:
        print(
            f"| {name} | {compared[name]} | " + " | ".join(str(different[name, each]) for each in sets) + " |"
        )
    return 1 if different else 0


def side(random: np.random.Generator, largest: int) -> int:
    """Draw a length: all orders of magnitude alike."""
    return int(np.exp(random.uniform(0, np.log(largest + 1))))


def random_image(random: np.random.Generator, noise: np.ndarray) -> np.ndarray:
    """Cut an image out of the noise, its rows as far apart as the noise's; one in four is black and white."""
    height, width = side(random, LARGEST_SIDE), side(random, LARGEST_SIDE)
    # One row is left below it, so that not every image ends where its memory ends.
    top = random.integers(0, LARGEST_SIDE + 2 - height)
    left = random.integers(0, LARGEST_SIDE + 1 - width)
    image = noise[top : top + height, left : left + width]
    if random.random() < 0.25:
        return np.where(image < 128, np.uint8(0), np.uint8(255))
    return image if random.random() < 0.5 else np.ascontiguousarray(image)


def random_frame(random: np.random.Generator, noise: np.ndarray) -> Frame:
    """Cut the planes of a frame out of the noise, of any format, meaning and size."""
    height, width = side(random, LARGEST_SIDE // 2), side(random, LARGEST_SIDE // 2)
    format = random.choice(YUV)
    planes = []
    for rows, columns in plane_shapes(format, width, height):
        top = random.integers(0, LARGEST_SIDE + 2 - rows)
        planes.append(noise[top : top + rows].reshape(rows, -1)[:, :columns])
    matrix, levels, siting = (random.choice(get_args(kind)) for kind in (Matrix, Range, Siting))
    return Frame(format, width, height, tuple(planes), matrix, levels, siting)


def described(image: np.ndarray | Frame) -> str:
    """Return what an image or frame is, in a word or two."""
    if isinstance(image, Frame):
        return f"{image.format} {image.width} x {image.height}, {image.siting}"
    return f"{image.shape}"


def random_geometry(random: np.random.Generator) -> Geometry:
    """Draw a geometry; half of the crops touch the resized image's edge."""
    size = side(random, LARGEST_OUTPUT), side(random, LARGEST_OUTPUT)
    kind = random.integers(4)
    if kind == 0:
        return Box(size)
    if kind == 1:
        return Letterbox(size)
    more = 0 if random.random() < 0.5 else side(random, LARGEST_OUTPUT)
    if kind == 2:
        return Crop((size[0] + more, size[1] + side(random, LARGEST_OUTPUT)), size)
    return Crop(max(size) + more, size)


if __name__ == "__main__":
    sys.exit(main())
