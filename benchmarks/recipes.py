"""What justifies calib/recipes: every way to find ranges, alone, corrected, and with learned rounding.

    python benchmarks/recipes.py --networks mobilenetv2,squeezenet1_1

needs `../shared/data` (or TLEDGE_SHARED) and the extra `train`. Ranges come from the photos of
`imagenet_sample/calib`, corrections from 32 of them; each state is compared with the float network on the 144
photos of `imagenet_sample/look`, which nothing was chosen on.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from calibration import CALIBRATION, LOOK, SHARED
from calibration import export as export_timm
from calibrators import TUNE, batches

from tledge.data import decode, image_files
from tledge.preprocess import Crop, Spec, preprocessor
from tledge.progress import Progress
from tledge.quantization import bias, by_layer
from tledge.quantization.build import BY_LAYER, Network, Tune, answers, attempt, find_ranges
from tledge.quantization.calibrate import FITTED
from tledge.quantization.graph import Graph, load, session
from tledge.quantization.images import BATCH
from tledge.quantization.observe import observe
from tledge.quantization.placement import place
from tledge.quantization.qdq import Correction
from tledge.quantization.ranges import METHODS
from tledge.quantization.rules import TARGETS

HALF = (0.5, 0.5, 0.5)
TORCHVISION = {"mobilenet_v2": HALF, "squeezenet1_1": (0.485, 0.456, 0.406)}


def spec(name: str) -> Spec:
    """Return the preprocessing that the weights were trained with."""
    std = (0.229, 0.224, 0.225) if name == "squeezenet1_1" else HALF
    mean = TORCHVISION.get(name, HALF)
    return Spec(geometry=Crop(resize=256, size=(224, 224)), filter="bilinear", mean=mean, std=std)


def export(name: str, path: Path) -> None:
    """Write a network with its ImageNet weights as ONNX: dynamic batch, opset 18."""
    if name not in TORCHVISION:
        export_timm(name, path)
        return
    import torch
    from safetensors.torch import load_file
    from torchvision import models

    network = models.get_model(name, weights=None)
    network.load_state_dict(load_file(SHARED / "weights" / f"{name}-torchvision.safetensors"), strict=True)
    program = torch.onnx.export(
        network.eval(),
        (torch.zeros(2, 3, 224, 224),),
        dynamo=True,
        opset_version=18,
        dynamic_shapes=({0: torch.export.Dim("N")},),
        verbose=False,
    )
    assert program is not None
    path.write_bytes(program.model_proto.SerializeToString())


def read(folder: Path, count: int, how: Spec) -> tuple[np.ndarray, np.ndarray]:
    prepare = preprocessor(how)
    files = sorted(image_files(folder))[:count]
    tensors = np.stack([prepare(decode.image(file.read_bytes())) for file in files])
    return tensors, np.array([int(file.parent.name) for file in files])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ["efficientnet-lite0", "mobilenetv2", *TORCHVISION]
    parser.add_argument("--networks", default=",".join(known))
    parser.add_argument("--variants", default=",".join(TARGETS), help="int8-cpu needs VNNI to be believed")
    parser.add_argument("--graphs", type=Path, default=Path("graphs"), help="where exported graphs are kept")
    given = parser.parse_args()
    given.graphs.mkdir(parents=True, exist_ok=True)
    threads, progress = os.cpu_count() or 1, Progress.silent()
    for name in given.networks.split(","):
        path = given.graphs / f"{name}.onnx"
        if not path.exists():
            export(name, path)
        images, _ = read(SHARED / "imagenet_sample" / "calib", CALIBRATION, spec(name))
        look, labels = read(SHARED / "imagenet_sample" / "look", LOOK, spec(name))
        model = load(path.read_bytes())
        judge = Tune(look, labels, answers(session(model, threads), look))
        placements = [
            place(Graph(model), target) for target in TARGETS if target in given.variants.split(",")
        ]
        stream = batches(images, BATCH)
        seen = observe(model, placements, stream, total=len(images), threads=threads, progress=progress)
        layers = max((placement.layers for placement in placements), key=len)
        mended: list[tuple[str, dict[str, Correction]]] = [("ranges", {})]
        for step in ("correction", "rounding"):
            fitted = bias.correct(model, layers, images[:FITTED], learn=step == "rounding", threads=threads)
            mended.append((step, fitted))
        right = 100 * (judge.logits.argmax(axis=1) == labels).mean()
        print(f"\n{name}: float top-1 {right:.2f} % of {len(labels)}", flush=True)
        for placement in placements:
            ways = {method: find_ranges(placement, seen, method) for method in METHODS}
            auto = [ways[method] for method in ("mse", "percentile-99.99", "minmax")]
            # The choice by layer is made on other images than those that it is judged on.
            ways[BY_LAYER] = by_layer.choose(model, placement, auto, images[-TUNE:], threads=threads)
            for method, found in ways.items():
                for step, corrections in mended:
                    state = attempt(
                        Network(model, seen), placement, method, found, corrections,
                        step=step, tune=judge, threads=threads,
                    )  # fmt: skip
                    print(state.chosen, flush=True)


if __name__ == "__main__":
    main()
