"""What the page says of benches: one run, several, shares, and the front of accuracy against latency."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.report.bundles import make
from tests.report.markup import Element, parse
from tests.report.test_page import HOSTILE
from tests.report.test_report_command import BENCH
from tledge.errors import InputError
from tledge.report import Evidence, gather, page
from tledge.report.latency import latency

pytest.importorskip("matplotlib")


def run(variant: str, p90: float, **changes: Any) -> dict[str, Any]:
    """Return a run of a stage of the bundle's ledger, in the words of `tledge bench`."""
    found = copy.deepcopy(BENCH) | {
        "valid": True,
        "reasons": [],
        "variant": variant,
        "threads": 2,
        "images_per_query": 1,
        "queries": 1024,
        "seconds": 10.0,
        "headline": {"metric": "p90", "value": p90, "unit": "ms"},
        "rate": None,
        "waiting_ms": None,
        "early_stopping_ms": {"p50": 4.1, "p90": p90, "p95": None, "p99": None, "p99.9": None},
        "budget": None,
        "accuracy": {"images": 24, "top1": 79.2, "stage": f"{variant}@onnxruntime", "wrong": 0},
        "joules_per_image": None,
        "latency_histogram": {"growth": 1.02, "first": 80, "counts": [3, 500, 400, 100, *[0] * 90, 21]},
    }
    found["latency_ms"] = {**BENCH["latency_ms"], "p90": p90}  # type: ignore[dict-item]
    return found | changes


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return gather(make(tmp_path_factory.mktemp("bundles") / "digits.tledge"))


def section(html: str, name: str) -> Element:
    return next(one for one in parse(html).all("section") if one.attributes["id"] == name)


def test_what_nothing_beats_is_on_the_front(evidence: Evidence) -> None:
    # In the ledger fp32 has 79.17 and int8-cpu 66.67 %.
    runs = [run("fp32", 5.0), run("int8-cpu", 3.0), run("fp32", 6.0, threads=1), run("fp16", 1.0)]
    found = latency(evidence, [{"runs": runs}])
    assert [point.front for point in found.points] == [True, True, False, False]
    assert found.points[3].top1 is None
    text = section(page(evidence, benches=({"runs": runs},)), "pareto").text
    assert "nothing beats it" in text
    assert "not scored" in text


def test_a_run_of_a_server_says_what_was_asked_of_it(evidence: Evidence) -> None:
    waiting = dict.fromkeys(("p50", "p90", "p95", "p99", "p99.9", "max", "mean"), 0.25)
    budget = {"ms": 10.0, "percentile": 99.0, "held": False, "measured_ms": 12.5}
    one = run(
        "fp32", 5.0, scenario="server", rate=40.0, waiting_ms=waiting, budget=budget, joules_per_image=0.5
    )
    text = section(page(evidence, benches=(one,)), "latency").text
    for word in ("waiting", "0.250", "40 queries/s", "MISSED", "0.5 J an image", "server", "2 threads"):
        assert word in text
    assert "4.100" in text, "the estimates of early stopping"


def test_the_distribution_is_drawn_where_the_bench_kept_it(evidence: Evidence) -> None:
    older = run("fp32", 5.0)
    del older["latency_histogram"]
    assert "How the latencies are spread" not in page(evidence, benches=(older,))
    wide = run("fp32", 5.0, latency_histogram={"growth": 1.02, "first": -100, "counts": [1] * 1000})
    html = page(evidence, benches=({"runs": [older, wide, run("int8-cpu", 3.0)]},))
    assert "2. fp32@onnxruntime: 1000 queries, 0.138 to 5.5e+07 ms" in html
    assert "3. int8-cpu@onnxruntime: 1024 queries, 4.88 to 32 ms" in html
    with pytest.raises(InputError, match="no result of a bench"):
        latency(evidence, [run("fp32", 5.0, latency_histogram={"growth": 1, "first": 0, "counts": [1]})])


def test_shares_are_shown_with_their_intervals(evidence: Evidence) -> None:
    figure = {"ratio": 0.5, "low": 0.45, "high": 0.55}
    ratio = {
        "of": HOSTILE[0],
        "to": "fp32@onnxruntime",
        "interleaved": False,
        "latency": dict.fromkeys(("p50", "p90", "p99", "mean"), figure),
    }
    html = page(evidence, benches=({"runs": [run("fp32", 5.0), run("fp32", 2.5)], "ratios": [ratio]},))
    text = section(html, "latency").text
    assert "0.500 (0.450 to 0.550)" in text
    assert "not in one run" in text
    assert HOSTILE[0] in text
    assert not parse(html).all("script")


def test_runs_of_one_name_are_told_apart(evidence: Evidence) -> None:
    found = latency(evidence, [run("fp32", 5.0), run("fp32", 6.0)])
    assert len({one.title for one in found.runs}) == 2


def test_only_what_was_measured_alike_is_on_one_front(evidence: Evidence) -> None:
    runs = [run("fp32", 5.0), run("fp32", 1.0, scenario="server"), run("int8-cpu", 3.0)]
    assert [point.number for point in latency(evidence, runs).points] == [1, 3]


def test_a_bench_of_other_images_is_refused(evidence: Evidence) -> None:
    assert latency(evidence, [run("fp32", 5.0, data_sha256=evidence.data_sha256)]).runs
    with pytest.raises(InputError, match="other images"):
        latency(evidence, [run("fp32", 5.0, data_sha256="0" * 64)])


def test_without_a_bench_the_page_says_how_to_make_one(evidence: Evidence, tmp_path: Path) -> None:
    html = page(evidence)
    assert "tledge bench B --json" in section(html, "latency").text
    assert "tledge bench B --grid --json" in section(html, "pareto").text
