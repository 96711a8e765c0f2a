"""What `Model` costs over a bare session of the library on the same tensor: checks, softmax, labels.

    python benchmarks/overhead.py photos.tledge [--variant fp32] [--backend onnxruntime] [--threads 1]

Both open the same graph with the same settings. They take turns, a few inferences each, so that a clock that
moves moves both; every round opens both anew, because two sessions of one library differ by a few per cent by
where their memory lies. Prints one JSON document: the P50 of either in ms, and their ratio with a 95 %
interval over the rounds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tledge.bundle import Bundle
from tledge.runtime import machine, open_model

TURNS = 60
IN_A_ROW = 8


def bare_onnxruntime(path: Path, threads: int, tensor: Any) -> Callable[[], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: tensor})[0]


def bare_openvino(path: Path, threads: int, tensor: Any) -> Callable[[], Any]:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape(list(tensor.shape))
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run() -> Any:
        request.infer({0: tensor}, share_inputs=True)
        return request.get_output_tensor(0).data

    return run


BARE = {"onnxruntime": bare_onnxruntime, "openvino": bare_openvino}


def one_round(bundle: Bundle, variant: str, backend: str, threads: int) -> tuple[float, float]:
    """Return the P50 in ms of the bare session and of the model, opened anew."""
    model = open_model(bundle, backend, variant, threads=threads)
    tensor = model.preprocess(bundle.read(bundle.eval_images()[0].file))
    bare = BARE[backend](bundle.file(f"{variant}.onnx"), threads, tensor)
    image = [b""]
    candidates: list[Callable[[], Any]] = [bare, lambda: model.answers(model.logits(tensor), image)]
    times: list[list[float]] = [[], []]
    for turn in range(TURNS):
        for which, candidate in enumerate(candidates):
            for _ in range(IN_A_ROW):
                started = time.perf_counter()
                candidate()
                if turn >= 2:
                    times[which].append((time.perf_counter() - started) * 1e3)
    return float(np.median(times[0])), float(np.median(times[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--variant", default="fp32")
    parser.add_argument("--backend", default="onnxruntime", choices=list(BARE))
    parser.add_argument("--threads", type=int, default=machine.physical_cores())
    parser.add_argument("--rounds", type=int, default=8)
    wanted = parser.parse_args()
    bundle = Bundle.open(wanted.bundle)
    rounds = [one_round(bundle, wanted.variant, wanted.backend, wanted.threads) for _ in range(wanted.rounds)]
    bare, model = (float(np.median(column)) for column in zip(*rounds, strict=True))
    ratios = np.array([ours / theirs for theirs, ours in rounds])
    drawn = np.random.default_rng(0).choice(ratios, (10_000, len(ratios))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    document = {
        "variant": wanted.variant,
        "backend": wanted.backend,
        "threads": wanted.threads,
        "bare_p50_ms": round(bare, 4),
        "model_p50_ms": round(model, 4),
        "ratio": round(float(ratios.mean()), 4),
        "ratio_low": round(float(low), 4),
        "ratio_high": round(float(high), 4),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
