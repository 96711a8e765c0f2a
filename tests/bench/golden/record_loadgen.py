"""Record what MLPerf's own LoadGen makes of a run: `loadgen.json`, which test_percentiles.py reads.

    python tests/bench/golden/record_loadgen.py tests/bench/golden/loadgen.json

needs `pip install mlcommons-loadgen==6.0.17` (x86-64 only, and so no dependency of tledge). A fake system
answers after a random time with rare stalls; LoadGen's trace gives each latency in nanoseconds, its summary
what LoadGen says of them.
"""

from __future__ import annotations

import json
import random
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mlperf_loadgen as loadgen

RUNS: dict[str, dict[str, Any]] = {
    "single-stream": {"scenario": "SingleStream", "min_query_count": 1024},
    "single-stream, few": {"scenario": "SingleStream", "min_query_count": 100, "max_query_count": 100},
    "multi-stream": {"scenario": "MultiStream", "min_query_count": 700},
    "server, held": {
        "scenario": "Server",
        "min_query_count": 1200,
        "server_target_qps": 300.0,
        "server_target_latency_ns": 500_000_000,
        "server_target_latency_percentile": 0.99,
    },
    "server, missed": {
        "scenario": "Server",
        "min_query_count": 1200,
        "server_target_qps": 300.0,
        "server_target_latency_ns": 1_500_000,
        "server_target_latency_percentile": 0.99,
    },
}


def answer(samples: list[Any]) -> None:
    """Answer a query after a random time; one in a hundred stalls."""
    stall = 3e-3 if random.random() < 0.01 else 0.0
    until = time.perf_counter() + random.lognormvariate(-7.6, 0.3) + stall
    while time.perf_counter() < until:
        pass
    loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0) for sample in samples])


def record(folder: Path, **settings: Any) -> dict[str, Any]:
    """Run LoadGen once and return the latencies of its queries and what its summary says of them."""
    wanted = loadgen.TestSettings()
    wanted.mode = loadgen.TestMode.PerformanceOnly
    wanted.min_duration_ms = 100
    wanted.single_stream_expected_latency_ns = wanted.multi_stream_expected_latency_ns = 600_000
    for name, value in settings.items():
        setattr(wanted, name, getattr(loadgen.TestScenario, value) if name == "scenario" else value)
    system = loadgen.ConstructSUT(answer, lambda: None)
    library = loadgen.ConstructQSL(64, 64, lambda samples: None, lambda samples: None)
    logs = loadgen.LogSettings()
    logs.enable_trace = True
    output = loadgen.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = str(folder), False
    logs.log_output = output
    loadgen.StartTestWithLogSettings(system, library, wanted, logs, "")
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(system)
    trace = (folder / "mlperf_log_trace.json").read_text()
    summary = (folder / "mlperf_log_summary.txt").read_text()
    queries: dict[int, int] = {}
    for query, latency in re.findall(r'"query_seq":(\d+),.*?"complete_ns":(\d+)', trace):
        queries[int(query)] = max(queries.get(int(query), 0), int(latency))

    def number(pattern: str) -> int | None:
        found = re.search(pattern, summary)
        return int(found[1]) if found else None

    def percentiles(pattern: str) -> dict[str, int]:
        return {str(float(p)): int(value) for p, value in re.findall(pattern, summary)}

    return {
        "settings": settings,
        "latencies_ns": list(queries.values()),
        "percentiles_ns": percentiles(r"(?m)^([\d.]+) percentile latency \(ns\)\s*: (\d+)"),
        "estimates_ns": percentiles(r"Early stopping ([\d.]+)th percentile estimate: (\d+)"),
        "needed": number(r"at least (\d+) (?:total )?queries"),
        "discarded": number(r"Would discard (\d+)"),
        "more_needed": number(r"at least (\d+) more queries"),
        "early_stopping": re.search(r"Early stopping satisfied\s*: (\w+)", summary)[1] == "Yes",  # type: ignore[index]
        "valid": "Result is : VALID" in summary,
    }


def main() -> None:
    random.seed(0)
    runs = {}
    for name, settings in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            runs[name] = record(Path(folder), **settings)
    Path(sys.argv[1]).write_text(json.dumps({"loadgen": "mlcommons-loadgen 6.0.17", "runs": runs}) + "\n")


if __name__ == "__main__":
    main()
