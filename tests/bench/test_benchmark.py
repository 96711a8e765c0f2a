"""`tledge.bench.run` on a small bundle: the document, the scenarios, comparisons, and what it refuses."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from tests.bench import quick
from tests.runtime import bundles
from tledge import bench
from tledge.bench import (
    accuracy,
    benchmark,
    candidates,
    cold,
    queries,
    scenarios,
    validity,
)
from tledge.bench.load import Rules
from tledge.bench.percentiles import PERCENTILES, allowed_over
from tledge.bench.scenarios import settings
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
        patch.setattr(benchmark, "NOISE_SECONDS", 0.05)
        patch.setattr(benchmark, "LEAST_NOISE_SECONDS", 0.05)
        patch.setattr(cold, "REPEATS", 1)
        yield


@pytest.fixture(scope="module")
def result(bundle):
    return bench.run(bundle, duration=0.2, backend="onnxruntime", threads=[1])


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
    assert environment["sampled"]["samples"] >= 2
    assert 0 < environment["sampled"]["ms"] < 100
    assert ("power_w" in environment["unknown"]) == (result["joules_per_image"] is None)


def test_the_table_names_what_was_measured(result):
    table = bench.text(result)
    for word in ("fp32 on onnxruntime", "decode", "postprocess", "p99.9", "cold start", "images/s"):
        assert word in table
    assert "upload" not in table
    powered = {**result["environment"], "power_w": {"jtop": 12.5}, "power_of": {"jtop": "board"}}
    powered = {**result, "environment": powered, "joules_per_image": 0.0625}
    assert "power        board 12.5 W (jtop), 0.062 J an image" in bench.text(powered)
    judged = bench.text({**result, "valid": False, "reasons": ["the clocks moved"]})
    assert judged.endswith("NOT VALID:\n  - the clocks moved")
    assert bench.text({**result, "valid": True, "reasons": []}).endswith("VALID")


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(("source", "stages"), [("jpeg", 4), ("pixels", 3), ("tensor", 2)])
def test_a_query_starts_where_it_is_told(model, source, stages, size):
    files = [bundles.png(seed) for seed in range(3)]
    query = queries.queries(model, queries.starts(model, files, source), source)
    for images in ([0, 1, 2][:size], [2, 1, 1][:size]):
        answer, stamps = query(images)
        assert answer == [model.predict(files[image]).index for image in images]
        assert len(stamps) == stages == len(queries.timed(source))
        assert list(stamps) == sorted(stamps)


def test_a_session_that_takes_few_images_at_once_gets_them_in_parts(model):
    small = dataclasses.replace(model, session=dataclasses.replace(model.session, largest=2))
    files = [bundles.png(seed) for seed in range(5)]
    answer, _ = queries.queries(small, files, "jpeg")(range(5))
    assert answer == [model.predict(file).index for file in files]


def test_a_slow_backend_is_reported_in_its_stage(model):
    spent = []

    def infer(x):
        started = time.perf_counter()
        time.sleep(0.003)
        spent.append((time.perf_counter() - started) * 1e3)
        return np.zeros((len(x), 5), np.float32)

    slow = dataclasses.replace(model, session=dataclasses.replace(model.session, infer=infer))
    images = [bundles.png(0)]
    subject = candidates.Subject(slow, queries.queries(slow, images, "jpeg"), 1, images)
    (measured,) = benchmark.measure([subject], 1, settings("single-stream", duration=0.02))
    infer_ms = measured.recording.stages[:, measured.stages.index("infer")]
    assert np.median(infer_ms / spent[-len(infer_ms) :]) == pytest.approx(1, rel=0.05)


# --- scenarios ---


def test_how_many_queries_a_run_makes_at_least():
    def least(scenario: str, per_query: int) -> int:
        asked = {"rate": 5.0, "budget_ms": 5.0} if scenario == "server" else {}
        return settings(scenario, **asked).queries(per_query)

    assert [least("single-stream", size) for size in (1, 8, 64)] == [1024, 128, 64]
    assert [least("multi-stream", size) for size in (4, 8, 16)] == [1324, 662, 662]
    assert [least("offline", size) for size in (1, 4, 64, 5000)] == [1024, 256, 16, 1]
    assert least("server", 1) == 1024
    for headline, queries_needed in scenarios.NEEDED.items():
        fraction = PERCENTILES[headline]
        assert allowed_over(queries_needed, fraction) == 1 > allowed_over(queries_needed - 1, fraction)


@pytest.fixture
def short(monkeypatch):
    quick.make(monkeypatch)


def test_multi_stream_asks_for_eight_images_at_once(bundle, short):
    result = bench.run(bundle, "multi-stream", duration=0.1, backend="onnxruntime", threads=[1])
    assert result["images_per_query"] == 8
    assert result["headline"]["metric"] == "p99"
    assert result["throughput"] == pytest.approx(8 * result["queries"] / result["seconds"])


def test_offline_counts_images(bundle, short):
    result = bench.run(bundle, "offline", duration=0.3, backend="onnxruntime", threads=[1], batch=[16])
    assert result["headline"] == {"metric": "throughput", "value": result["throughput"], "unit": "images/s"}
    assert result["queries"] >= 64
    assert not any("too few queries" in reason for reason in result["reasons"])


def test_the_server_says_whether_its_bound_held(bundle, short):
    asked = {"duration": 0.3, "backend": "onnxruntime", "threads": [1], "rate": 400.0}
    held = bench.run(bundle, "server", budget_ms=2000, **asked)
    assert held["budget"]["held"]
    assert held["waiting_ms"]["mean"] >= 0
    assert held["rate"] == 400
    missed = bench.run(bundle, "server", budget_ms=1e-3, percentile=99.9, **{**asked, "duration": 0.02})
    assert not missed["budget"]["held"]
    assert "P99.9 within 0.001 ms at 400 queries/s: MISSED" in bench.text(missed)
    assert "4603 queries are needed to tell" in bench.text(missed)
    assert not bench.stands(missed, force=True)


def test_several_take_turns_in_one_run(bundle, short):
    result = bench.run(bundle, duration=0.1, backend="onnxruntime", threads=[1], batch=[1, 4])
    assert list(result) == ["runs", "ratios"]
    assert [run["images_per_query"] for run in result["runs"]] == [1, 4]
    (ratio,) = result["ratios"]
    assert (ratio["of"], ratio["to"]) == (
        "fp32@onnxruntime, 1 threads, 4 images a query",
        "fp32@onnxruntime, 1 threads",
    )
    assert ratio["interleaved"]
    p50 = ratio["latency"]["p50"]
    assert p50["low"] <= p50["ratio"] <= p50["high"]
    assert p50["ratio"] > 1.2
    assert "against fp32@onnxruntime, 1 threads:" in bench.text(result)
    json.dumps(result, allow_nan=False)


def test_an_earlier_result_is_compared_with(bundle, result, tmp_path, short):
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps(result))
    asked = {"duration": 0.1, "backend": "onnxruntime", "threads": [1]}
    again = bench.run(bundle, compare=earlier, **asked)
    (ratio,) = again["ratios"]
    assert ratio["to"] == "fp32@onnxruntime, 1 threads (earlier.json)"
    assert not ratio["interleaved"]
    with pytest.raises(InputError, match=r"another start \(--from\): jpeg there, tensor here"):
        bench.run(bundle, compare=earlier, source="tensor", **asked)
    with pytest.raises(InputError, match="measured with other eval images"):
        bench.run(bundle, compare=earlier, images=[bundles.png(0)], **asked)


def test_a_backend_that_fails_in_mid_run_is_reported_with_what_was_measured(bundle, model, short):
    calls = []

    def infer(x):
        calls.append(1)
        if len(calls) > 400:
            raise RuntimeError("device lost")
        return model.session.infer(x)

    broken = dataclasses.replace(model, session=dataclasses.replace(model.session, infer=infer))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "open_model", lambda *args, **options: broken)
        patch.setattr("tledge.bench.scenarios.Rules", functools.partial(Rules, warm_up=0))
        result = bench.run(bundle, duration=1, backend="onnxruntime", threads=[1])
    assert 100 < result["queries"] < 400
    assert result["failure"] == "device lost"
    assert result["reasons"][0] == f"the backend failed after {result['queries']} queries: device lost"
    assert not bench.stands(result, force=True)


def test_a_busy_loop_beside_makes_a_run_not_valid(bundle, short):
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        result = bench.run(bundle, duration=0.5, backend="onnxruntime", threads=[1])
    finally:
        loop.kill()
        loop.wait()
    assert not result["valid"]
    assert any("other processes kept" in reason for reason in result["reasons"])
    assert result["environment"]["other_load_cpus"] > validity.OTHER_LOAD_CPUS


def test_an_engine_has_a_size_of_its_own(bundle, model, monkeypatch):
    monkeypatch.setattr(benchmark, "library", lambda backend: backend)
    plan = SimpleNamespace(plan_bytes=3 * 2**20)
    monkeypatch.setattr(
        benchmark, "engine_here", lambda *which: plan if which[1:] == ("tensorrt", "fp32") else None
    )
    engine = dataclasses.replace(model, session=dataclasses.replace(model.session, backend="tensorrt"))
    graph = bundle.file("fp32.onnx").stat().st_size / 2**20
    assert benchmark._sizes_mib(bundle, engine) == (graph, 3)
    assert benchmark._sizes_mib(bundle, model) == (graph, None)


def test_a_run_knows_the_ledgers_answers(tmp_path, short):
    from tledge.evaluation import stage

    bundle = bundles.make(tmp_path / "scored.tledge", eval_images=6)
    result = bench.run(bundle, duration=0.02, backend="onnxruntime", threads=[1])
    assert result["accuracy"]["stage"] is None
    assert "the ledger has no such stage" in bench.text(result)
    row, _ = stage.evaluate(bundle, "fp32", "onnxruntime", threads=1)
    bundle = Bundle.open(bundle.path)
    known = accuracy.expected(bundle, [1, 3], "fp32", "onnxruntime")
    assert known.truth.tolist() == [1, 3]
    asked = {"duration": 0.05, "backend": "onnxruntime", "threads": [1]}
    found = bench.run(bundle, every_image=True, **asked)["accuracy"]
    assert found == bench.run(bundle, **asked)["accuracy"]
    assert found == {
        "stage": "fp32@onnxruntime",
        "images": 6,
        "top1": pytest.approx(row.top1),
        "ledger_top1": pytest.approx(row.top1),
        "wrong": 0,
    }


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


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"scenario": "server"}, "needs a rate and a bound"),
        ({"scenario": "server", "rate": 5.0}, "needs a rate and a bound"),
        ({"scenario": "server", "rate": 0.0, "budget_ms": 5.0}, "the rate is 0/s"),
        ({"rate": 5.0}, "single-stream has no rate"),
        ({"budget_ms": 0.0}, "the budget is 0 ms"),
        ({"percentile": 99.0}, "without a budget"),
        ({"budget_ms": 5.0, "percentile": 100.0}, "no percentile 100"),
        (
            {
                "scenario": "server",
                "rate": 5.0,
                "budget_ms": 5.0,
                "threads": [1, 2],
                "backend": "onnxruntime",
            },
            "one candidate at a time",
        ),
    ],
)
def test_settings_that_make_no_sense(bundle, asked, said):
    with pytest.raises(UsageError, match=said):
        bench.run(bundle, **asked)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"runs": 5}', '{"latency_ms": {}}', "null"])
def test_what_is_no_result_of_a_bench_is_not_compared_with(bundle, tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(InputError, match="no result of a bench"):
        bench.run(bundle, compare=tmp_path / "other.json")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        bench.run(bundle, compare=tmp_path / "none.json")


def test_no_images(bundle, tmp_path):
    with pytest.raises(InputError, match="list of images is empty"):
        bench.run(bundle, images=[])
    bare = bundles.make(tmp_path / "bare.tledge")
    with pytest.raises(InputError, match="holds no eval images"):
        bench.run(bare)


def test_a_variant_that_is_not_there(bundle):
    with pytest.raises(BundleError, match="no variant int8"):
        bench.run(bundle, variant="int8")


def test_in_accuracy_mode_every_image_is_answered_and_not_only_the_drawn(bundle, short, monkeypatch):
    monkeypatch.setattr(candidates, "IMAGES", 2)
    asked = {"duration": 0.05, "backend": "onnxruntime", "threads": [1], "batch": [4]}
    assert bench.run(bundle, **asked)["accuracy"]["images"] == 2
    assert bench.run(bundle, every_image=True, **asked)["accuracy"]["images"] == 6
    with pytest.raises(UsageError, match="that of the bundle's eval images"):
        bench.run(bundle, every_image=True, images=[bundles.png(0)], **asked)


def test_images_are_drawn_by_seed():
    drawn = candidates.draw(1000, 0)
    assert len(set(drawn)) == candidates.IMAGES
    assert drawn == candidates.draw(1000, 0)
    assert drawn != candidates.draw(1000, 1)
    assert candidates.draw(3, 0) == [0, 1, 2]


def test_a_cold_start_that_fails_is_explained(bundle):
    with pytest.raises(MachineError, match="a fresh process could not load"):
        cold.measure(bundle.path, "onnxruntime", "fp32", threads=1, image=b"no image", repeats=1)
