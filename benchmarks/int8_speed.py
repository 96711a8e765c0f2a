"""How much faster `int8-cpu` is than `fp32`, on ONNX Runtime and OpenVINO, beside ONNX Runtime's own INT8.

    python benchmarks/int8_speed.py --networks lite0,resnet18 --threads 1

Networks are of random weights (how long INT8 takes does not hang on them), 224 x 224, batch 1; ranges are
min-max of random images. The candidates run in turns, so that what else the machine does meets all alike;
printed are the median, and the mean over the rounds of a round's ratio to `fp32`, with its 95 % interval.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from calibrators import batches, input_of
from networks import BACKBONES, random_graph

Run = Callable[[np.ndarray], Any]

IMAGES, WARM, EACH = 16, 20, 10  # images for the ranges, runs before timing, runs of a candidate in a round


def graphs(backbone: str) -> dict[str, bytes]:
    """Return the graphs that are timed: the float one, tledge's two INT8 placements and ONNX Runtime's."""
    from tledge.progress import Progress
    from tledge.quantization import narrow
    from tledge.quantization.build import emit, find_ranges
    from tledge.quantization.graph import Graph, load
    from tledge.quantization.observe import observe
    from tledge.quantization.placement import place
    from tledge.quantization.rules import TARGETS

    fp32 = random_graph(backbone)
    model = load(fp32)
    images = np.random.default_rng(0).normal(size=(IMAGES, 3, 224, 224)).astype(np.float32)
    placements = [place(Graph(model), target, bits=narrow.bits("auto")) for target in TARGETS]
    observers = observe(model, placements, batches(images, 4), total=IMAGES, threads=1, progress=Progress())
    found = {"fp32": fp32}
    for placement in placements:
        ranges = find_ranges(placement, observers, "minmax")
        found[placement.target] = emit(model, placement, ranges, {}).SerializeToString()
    return found | {"onnxruntime's INT8": theirs(fp32, images)}


def theirs(fp32: bytes, images: np.ndarray) -> bytes:
    """Return what ONNX Runtime's static quantisation makes, unsigned activations, a scale a channel."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    name = input_of(onnx.load_from_string(fp32))

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = batches(images, 1)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.rest, None)
            return None if batch is None else {name: batch}

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        before.write_bytes(fp32)
        quantize_static(
            str(before),
            str(after),
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
        return after.read_bytes()


def with_onnxruntime(graph: bytes, variant: str, threads: int) -> Run:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    disabled = ["WeightBiasQuantization"] if variant == "int8" else None
    opened = onnxruntime.InferenceSession(
        graph, options, ["CPUExecutionProvider"], disabled_optimizers=disabled
    )
    name = opened.get_inputs()[0].name
    return lambda image: opened.run(None, {name: image})


def with_openvino(graph: bytes, threads: int) -> Run:
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(core.read_model(graph), "CPU", settings).create_infer_request()
    return lambda image: request.infer([image])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", default="lite0,resnet18")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    image = np.random.default_rng(1).normal(size=(1, 3, 224, 224)).astype(np.float32)
    for network in given.networks.split(","):
        made = graphs(BACKBONES[network])
        runs = {
            f"{variant}@onnxruntime": with_onnxruntime(graph, variant, given.threads)
            for variant, graph in made.items()
        }
        for variant in ("fp32", "int8-cpu"):
            runs[f"{variant}@openvino"] = with_openvino(made[variant], given.threads)
        times = timed(runs, image, given.rounds)
        print(f"\n{network}, {given.threads} thread(s), {given.rounds * EACH} runs of each")
        for name, found in times.items():
            backend = name.split("@")[1]
            ratios = np.median(times[f"fp32@{backend}"], axis=1) / np.median(found, axis=1)
            half = 1.96 * ratios.std(ddof=1) / len(ratios) ** 0.5
            print(
                f"{name:<32}{np.median(found):>8.2f} ms  {ratios.mean():.2f}x of fp32 "
                f"({ratios.mean() - half:.2f} to {ratios.mean() + half:.2f})",
                flush=True,
            )


def timed(
    runs: dict[str, Callable[[np.ndarray], Any]], image: np.ndarray, rounds: int
) -> dict[str, np.ndarray]:
    """Return the milliseconds of each candidate, rounds x EACH, taken in turns."""
    for run in runs.values():
        for _ in range(WARM):
            run(image)
    times = {name: np.empty((rounds, EACH)) for name in runs}
    for turn in range(rounds):
        for name, run in runs.items():
            for index in range(EACH):
                started = time.perf_counter()
                run(image)
                times[name][turn, index] = 1000 * (time.perf_counter() - started)
    return times


if __name__ == "__main__":
    main()
