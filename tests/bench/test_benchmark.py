from __future__ import annotations

import dataclasses
import functools
import json
import math
import time

import numpy as np
import pytest

from tests.runtime import bundles
from tledge import bench
from tledge.bench import benchmark, cold, noise, state, validity
from tledge.bench.load import Recording
from tledge.bundle import Bundle
from tledge.errors import BundleError, InputError, MachineError, UsageError
from tledge.runtime import Model, open_model

pytest.importorskip("onnxruntime")

TIMES = ["p50", "p90", "p95", "p99", "p99.9", "max", "mean"]
STAGES = ["decode", "preprocess", "upload", "infer", "download", "postprocess"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return bundles.make(tmp_path_factory.mktemp("bench") / "tiny.tledge", eval_images=6)


@pytest.fixture(scope="module")
def model(bundle) -> Model:
    return open_model(bundle, "onnxruntime", "fp32", threads=1)


@pytest.fixture(scope="module", autouse=True)
def short_noise_test():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "measure", functools.partial(noise.measure, seconds=0.05))
        yield


@pytest.fixture(scope="module")
def result(bundle):
    return bench.run(bundle, duration=0.2, backend="onnxruntime", threads=1)


def test_the_document_is_the_contracts(result):
    contract = ["valid", "reasons", "scenario", "from", "variant", "backend", "latency_ms", "throughput"]
    contract += ["stages_ms", "cold_start_ms", "peak_memory_mib", "environment"]
    assert set(contract) <= set(result)
    assert list(result["latency_ms"]) == TIMES
    assert list(result["stages_ms"]) == STAGES
    assert result["stages_ms"]["upload"] is None
    assert result["stages_ms"]["download"] is None
    assert list(result["stages_ms"]["decode"]) == TIMES
    assert (result["scenario"], result["from"]) == ("single-stream", "jpeg")
    assert (result["variant"], result["backend"], result["device"]) == ("fp32", "onnxruntime", "cpu")
    assert result["valid"] == (not result["reasons"])
    json.dumps(result, allow_nan=False)


def test_its_numbers_hang_together(result):
    latency = result["latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    parts = [stage["mean"] for stage in result["stages_ms"].values() if stage]
    assert sum(parts) == pytest.approx(latency["mean"], rel=1e-6)
    assert result["throughput"] == pytest.approx(result["queries"] / result["seconds"])
    assert sum(result["cold_start_parts_ms"].values()) == pytest.approx(result["cold_start_ms"], rel=0.3)
    assert 10 < result["peak_memory_mib"] < 2000


def test_the_environment_is_described_and_what_is_unknown_is_listed(result):
    environment = result["environment"]
    assert environment["cores"] >= 1
    assert environment["versions"]["numpy"] == np.__version__
    for name in environment["unknown"]:
        assert environment[name] is None
    assert environment["noise"]["before"]["p50"] > 0


def test_the_table_names_what_was_measured(result):
    table = bench.text(result)
    for word in ("fp32 on onnxruntime", "decode", "postprocess", "p99.9", "cold start", "images/s"):
        assert word in table
    assert "upload" not in table
    judged = bench.text({**result, "valid": False, "reasons": ["the clocks moved"]})
    assert judged.endswith("NOT VALID:\n  - the clocks moved")
    assert bench.text({**result, "valid": True, "reasons": []}).endswith("VALID")


@pytest.mark.parametrize(("source", "stages"), [("jpeg", 4), ("pixels", 3), ("tensor", 2)])
def test_a_query_starts_where_it_is_told(model, source, stages):
    files = [bundles.png(seed) for seed in range(3)]
    query = benchmark.queries(model, files, source)
    for position, file in enumerate(files):
        answer, stamps = query(position)
        assert answer == model.predict(file).index
        assert len(stamps) == stages == len(benchmark.timed(source))
        assert list(stamps) == sorted(stamps)


def test_a_slow_backend_is_reported_in_its_stage(model):
    spent = []

    def infer(x):
        started = time.perf_counter()
        time.sleep(0.01)
        spent.append((time.perf_counter() - started) * 1e3)
        return np.zeros((len(x), 5), np.float32)

    slow = dataclasses.replace(model, session=dataclasses.replace(model.session, infer=infer))
    measured = benchmark.measure(slow, [bundles.png(0)], duration=0.1, min_queries=10)
    infer_ms = measured.recording.stages[:, measured.stages.index("infer")]
    assert np.median(infer_ms / spent[-len(infer_ms) :]) == pytest.approx(1, rel=0.05)


# --- validity, on made-up runs ---


def look(at: float, busy: float, own: float) -> state.Look:
    return state.Look(at, busy, own, 0.0, None, None, None)


def measured(n: int = 2000, infer: np.ndarray | None = None, answers: np.ndarray | None = None, **changes):
    """Return a quiet run of `n` queries of 1 ms of inference and 1 ms of the rest."""
    infer = np.full(n, 1.0) if infer is None else infer
    ended = np.cumsum(infer + 1.0)
    stamps = np.stack([ended - infer - 0.5, ended - infer - 0.1, ended - 0.1, ended], axis=1) * 1e6
    recording = Recording(
        images=np.arange(n) % 8,
        answers=np.arange(n) % 8 if answers is None else answers,
        issued=((ended - infer - 1.0) * 1e6).astype(np.int64),
        ended=stamps.astype(np.int64),
    )
    quiet = noise.Noise(10, 1.0, 1.1, 100)
    parts = {
        "before": look(0, 0, 0),
        "after": look(10, 10.1, 10),
        "noise_before": quiet,
        "noise_after": quiet,
    }
    return validity.Measured(recording, benchmark.timed("jpeg"), **{**parts, **changes})


def test_a_quiet_run_is_valid():
    assert validity.reasons(measured()) == []


def test_too_few_queries():
    (reason,) = validity.reasons(measured(n=500))
    assert reason.startswith("too few queries: 500 of 1024 in 1 s; give --duration 3 or more")


def test_other_load():
    (reason,) = validity.reasons(measured(after=look(10, 20, 10)))
    assert reason.startswith("other processes kept 1.00 CPUs busy")


def test_a_machine_whose_speed_moves():
    (reason,) = validity.reasons(measured(noise_after=noise.Noise(10, 1.3, 1.35, 100)))
    assert "speed moved: the same work took +30%" in reason


def test_unsteady_inference_unless_the_machine_itself_is():
    stalls = np.where(np.arange(2000) % 50 == 0, 3.0, 1.0)
    (reason,) = validity.reasons(measured(infer=stalls))
    assert reason.startswith("inference was unsteady: P99/P50 is 3.00")
    noisy = noise.Noise(10, 1.0, 3.2, 100)
    assert validity.reasons(measured(infer=stalls, noise_before=noisy)) == []


def test_answers_that_change():
    answers = np.arange(2000) % 8
    answers[1003] = 7
    (reason,) = validity.reasons(measured(answers=answers))
    assert reason == "the answer to 1 of the images changed between repeats"


# --- the machine ---


def test_busy_time_counts_work_and_theft_but_not_waiting():
    ticks = state.os.sysconf("SC_CLK_TCK")
    stat = f"cpu  {ticks} {ticks} {ticks} 999 999 {ticks} {ticks} {ticks} 0 0\ncpu0 1 2 3\n"
    assert state.busy_seconds(stat) == 6
    assert state.other_load(look(0, 0, 0), look(2, 6, 2)) == 2
    assert state.other_load(look(0, 0, 0), look(2, 1, 1.01)) == 0


def test_noise_is_measured_in_the_size_asked_for():
    blocks = noise.calibrate(2.0)
    found = noise.measure(blocks, threads=2, seconds=0.05)
    assert found.blocks == blocks
    assert found.samples >= noise.SMALLEST
    assert found.p99 >= found.p50 > 0
    assert found.ratio >= 1
    assert noise.calibrate(1e-9) == 1


# --- bad input ---


@pytest.mark.parametrize("duration", [0, -1, math.inf, math.nan])
def test_a_duration_must_be_positive(bundle, duration):
    with pytest.raises(UsageError, match="the duration is"):
        bench.run(bundle, duration=duration)


def test_unknown_scenario_and_source(bundle):
    with pytest.raises(UsageError, match="no scenario 'offlin'"):
        bench.run(bundle, "offlin")
    with pytest.raises(UsageError, match="cannot start from 'png'"):
        bench.run(bundle, source="png")


def test_no_images(bundle, tmp_path):
    with pytest.raises(InputError, match="list of images is empty"):
        bench.run(bundle, images=[])
    bare = bundles.make(tmp_path / "bare.tledge")
    with pytest.raises(InputError, match="holds no eval images"):
        bench.run(bare)


def test_a_variant_that_is_not_there(bundle):
    with pytest.raises(BundleError, match="no variant int8"):
        bench.run(bundle, variant="int8")


def test_images_are_drawn_by_seed():
    drawn = benchmark.draw(1000, 0)
    assert len(set(drawn)) == benchmark.IMAGES
    assert drawn == benchmark.draw(1000, 0)
    assert drawn != benchmark.draw(1000, 1)
    assert benchmark.draw(3, 0) == [0, 1, 2]


def test_a_cold_start_that_fails_is_explained(bundle):
    with pytest.raises(MachineError, match="a fresh process could not load"):
        cold.measure(bundle.path, "onnxruntime", "fp32", threads=1, image=b"no image", repeats=1)
