"""The tools that `calibration.py` compares, each a function from a graph and images to an INT8 graph.

    python benchmarks/calibrators.py TOOL MODEL IMAGES OUT

runs one in this process, and prints its seconds, those of the processors, and peak memory as JSON.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tledge.quantization.narrow import Asked
    from tledge.quantization.rules import Target

TUNE = 52  # the first of the images, which tledge makes its choices on
REPAIRS = ("equalisation", "correction", "rounding")


def batches(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(images), size):
        yield images[start : start + size]


def input_of(model: Any) -> str:
    """Return the name of the image tensor of an ONNX model."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return next(value.name for value in model.graph.input if value.name not in constants)


def with_tledge(
    variant: Target, steps: Sequence[str] = REPAIRS, aim: float = 99.0, asked: Asked = "auto"
) -> Callable[[Path, np.ndarray, Path], None]:
    """Return the worker for one variant: ranges, then repairs of `steps` until `aim` % should be kept.

    `aim` 0 is ranges alone; `asked` is what `--cpu-weights` says.
    """

    def work(model_path: Path, images: np.ndarray, out: Path) -> None:
        from onnx import ModelProto

        from tledge.progress import Progress
        from tledge.quantization import narrow
        from tledge.quantization.build import METHODS, Network, Tune, answers
        from tledge.quantization.calibrate import FITTED, SPARE
        from tledge.quantization.graph import Graph, load, session
        from tledge.quantization.images import BATCH
        from tledge.quantization.ladder import Job, climb
        from tledge.quantization.observe import observe
        from tledge.quantization.observers import Observer
        from tledge.quantization.placement import place
        from tledge.runtime.machine import physical_cores

        progress, threads, bits = Progress(), physical_cores(), narrow.bits(asked)
        model = load(model_path.read_bytes())
        calibration, held = images[TUNE:], images[:TUNE]

        def seen(network: ModelProto) -> dict[str, Observer]:
            placements, count = [place(Graph(network), variant, bits=bits)], len(calibration)
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
            bits=bits,
        )
        found = climb(Network(model, observers), (variant,), job, lambda other: seen(other.model))
        out.write_bytes(found.built[variant].model.SerializeToString())

    return work


def with_onnxruntime(method: str) -> Callable[[Path, np.ndarray, Path], None]:
    """Return the worker for static quantisation, S8S8, with the options that TensorRT's parser needs."""

    def work(model_path: Path, images: np.ndarray, out: Path) -> None:
        import onnx
        from onnxruntime.quantization import (
            CalibrationDataReader,
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )

        name = input_of(onnx.load(model_path))

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.rest = batches(images, 1)

            def get_next(self) -> dict[str, np.ndarray] | None:
                batch = next(self.rest, None)
                return None if batch is None else {name: batch}

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

    model = onnx.load(model_path)
    name = input_of(model)
    data = nncf.Dataset(list(batches(images, 1)), lambda batch: {name: batch})
    onnx.save(nncf.quantize(model, data, subset_size=len(images)), out)


def with_modelopt(model_path: Path, images: np.ndarray, out: Path) -> None:
    """NVIDIA's modelopt with its defaults, on the CPU; what is not INT8 stays float32."""
    from modelopt.onnx.quantization import quantize

    quantize(
        str(model_path),
        calibration_data=images,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(out),
    )


# Each with the environment that it runs in.
WORKERS: dict[str, tuple[str, Callable[[Path, np.ndarray, Path], None]]] = {
    "tledge ranges": ("tledge", with_tledge("int8", aim=0.0)),
    "tledge int8": ("tledge", with_tledge("int8")),
    "tledge int8-cpu": ("tledge", with_tledge("int8-cpu")),
    "tledge int8-cpu, 8 bits": ("tledge", with_tledge("int8-cpu", asked="8")),
    "onnxruntime min-max": ("peers", with_onnxruntime("MinMax")),
    "nncf": ("peers", with_nncf),
    "modelopt": ("modelopt", with_modelopt),
    "onnxruntime entropy": ("peers", with_onnxruntime("Entropy")),
}


def work(tool: str, model: Path, images: Path, out: Path) -> None:
    """Run one tool in this process, and print its seconds and peak memory as JSON."""
    values = np.load(images)
    before = peak()
    started = time.monotonic()
    WORKERS[tool][1](model, values, out)
    seconds, cpu = time.monotonic() - started, time.process_time()
    most = peak() - values.nbytes / 2**20
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mib": most, "start_mib": before}))


def peak() -> float:
    """Return the most memory that this process had, in MiB.

    Not getrusage's: a process that was started by vfork inherits the peak of the one that started it.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


if __name__ == "__main__":
    work(sys.argv[1], *map(Path, sys.argv[2:]))
