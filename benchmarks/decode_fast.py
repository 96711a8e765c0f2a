"""How many answers of an ImageNet network change when JPEGs are decoded fast (docs/preprocessing.md).

    python benchmarks/decode_fast.py GRAPH.onnx DATA [--side 224] [--enlarge 4]

GRAPH takes N x 3 x side x side, mean and std 0.5 (EfficientNet-Lite, MobileNetV2 of timm); an input of fixed
size is given another, which a fully convolutional network bears. DATA's JPEGs lie in folders named after the
class index. `--enlarge` makes each that many times larger first (Lanczos, JPEG of quality 90, 4:2:0): an
enlarged photo has less detail at the pixel than one that a camera took, so that fewer answers change.
"""

from __future__ import annotations

import argparse
import io
import math
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tledge.data import decode
from tledge.preprocess import Crop, Spec, preprocessor
from tledge.preprocess.geometry import jpeg_scale

BATCH = 8


def answers(graph: Path, side: int, tensors: list[np.ndarray]) -> np.ndarray:
    """Return the class of each tensor."""
    import onnx
    import onnxruntime

    model = onnx.load(graph)
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    sizes[2].dim_value = sizes[3].dim_value = side
    del model.graph.value_info[:]  # the shapes between were those of the other size
    session = onnxruntime.InferenceSession(model.SerializeToString())
    name = session.get_inputs()[0].name
    parts = [
        session.run(None, {name: np.stack(tensors[at : at + BATCH])})[0]
        for at in range(0, len(tensors), BATCH)
    ]
    return np.concatenate(parts).argmax(axis=1)


def enlarged(data: bytes, times: int) -> bytes:
    """Return the JPEG `times` as large."""
    if times == 1:
        return data
    image = Image.open(io.BytesIO(data)).convert("RGB")
    larger = image.resize((times * image.width, times * image.height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    larger.save(buffer, "JPEG", quality=90, subsampling=2)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graph", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--enlarge", type=int, default=1)
    arguments = parser.parse_args()
    side = arguments.side
    exact = Spec(geometry=Crop(resize=math.floor(side * 256 / 224), size=(side, side)))
    specs = {"exact": exact, "fast": exact.with_jpeg("fast")}
    tensors: dict[str, list[np.ndarray]] = {name: [] for name in specs}
    seconds: dict[str, list[float]] = {name: [] for name in specs}
    labels, scales = [], []
    for file in sorted(arguments.data.rglob("*.jp*g")):
        data = enlarged(file.read_bytes(), arguments.enlarge)
        with Image.open(io.BytesIO(data)) as opened:
            scales.append(jpeg_scale(specs["fast"], *opened.size))
        labels.append(int(file.parent.name))
        for name, spec in specs.items():
            prepare = preprocessor(spec)
            decode.tensor(data, prepare)  # the plan
            begun = time.perf_counter()
            tensors[name].append(np.asarray(decode.tensor(data, prepare)))
            seconds[name].append(time.perf_counter() - begun)
    found = {name: answers(arguments.graph, side, made) for name, made in tensors.items()}
    changed = int((found["exact"] != found["fast"]).sum())
    print(f"{arguments.graph.name}, {side} pixels, images enlarged {arguments.enlarge} times")
    print(f"decoded smaller: {sum(scale > 1 for scale in scales)} of {len(scales)}")
    print(f"answers changed: {changed} of {len(scales)}")
    for name in specs:
        right = 100 * float((found[name] == np.array(labels)).mean())
        print(
            f"{name}: top-1 {right:.2f} %, {1000 * statistics.median(seconds[name]):.2f} ms an image (median)"
        )


if __name__ == "__main__":
    main()
