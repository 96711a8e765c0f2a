"""How much one run differs from another, and how sure that is.

Latencies that follow each other are alike, so that drawing single ones anew (a plain bootstrap) would make
intervals too narrow: blocks are drawn. Runs that took turns are drawn turn by turn, the same ones for both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tledge.bench import results
from tledge.bench.load import Recording
from tledge.bench.percentiles import PERCENTILES, percentile
from tledge.errors import InputError

FIGURES = ("p50", "p90", "p99", "mean")
DRAWS = 1000
BLOCKS = 20  # of a run that took no turns, or too few
FEW_TURNS = 10
# What two results must have in common to be compared, and what it is called.
WORDS = {
    "scenario": "another scenario",
    "from": "another start (--from)",
    "images_per_query": "another number of images a query",
    "data_sha256": "other eval images",
}

Draws = NDArray[np.float64]


def intervals(recording: Recording, seed: int = 0) -> dict[str, dict[str, float]]:
    """Return the 95 % interval of each of `FIGURES`, in ms."""
    blocks = _blocks(recording)
    drawn = _drawn(recording, blocks, _counts(int(blocks[-1]) + 1, seed))
    return {name: _interval(drawn[name]) for name in FIGURES}


def ratios(recordings: Sequence[Recording], names: Sequence[str], seed: int = 0) -> list[dict[str, Any]]:
    """Return what each run but the first takes, as a share of what the first takes, with 95 % intervals."""
    base = recordings[0]
    found = []
    for other, name in zip(recordings[1:], names[1:], strict=True):
        blocks = [_blocks(base), _blocks(other)]
        shared = min(int(b[-1]) + 1 for b in blocks)
        # Turns that only one of the two had come last, and have no partner.
        counts = _counts(shared, seed)
        first, second = (_drawn(r, b, counts) for r, b in zip((base, other), blocks, strict=True))
        latency = {
            figure: {"ratio": _figure(other, figure) / _figure(base, figure)}
            | _interval(second[figure] / first[figure])
            for figure in FIGURES
        }
        found.append({"of": name, "to": names[0], "interleaved": True, "machine": None, "latency": latency})
    return found


def _blocks(recording: Recording) -> NDArray[np.int64]:
    """Return in which block each query is: its turn, or one of `BLOCKS` equal parts of the run."""
    if recording.turns[-1] + 1 >= FEW_TURNS:
        return recording.turns
    queries = len(recording.turns)
    return np.arange(queries) * min(BLOCKS, queries) // queries


def _counts(blocks: int, seed: int) -> NDArray[np.int64]:
    """Return how often each block is drawn: DRAWS x blocks."""
    return np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), size=DRAWS)


def _drawn(recording: Recording, blocks: NDArray[np.int64], counts: NDArray[np.int64]) -> dict[str, Draws]:
    """Return each of `FIGURES` for each draw."""
    kept = blocks < counts.shape[1]
    latencies, blocks = recording.latencies[kept], blocks[kept]
    order = np.argsort(latencies, kind="stable")
    ordered, of_block = latencies[order], blocks[order]
    found: dict[str, list[float]] = {name: [] for name in FIGURES}
    for count in counts:
        weights = count[of_block]
        upto = np.cumsum(weights)
        for name in FIGURES:
            if name == "mean":
                found[name].append(float(ordered @ weights / upto[-1]))
            else:
                entry = min(int(upto[-1] * PERCENTILES[name]), int(upto[-1]) - 1)
                found[name].append(float(ordered[np.searchsorted(upto, entry, side="right")]))
    return {name: np.array(values) for name, values in found.items()}


def _figure(recording: Recording, name: str) -> float:
    latencies = recording.latencies
    return float(latencies.mean()) if name == "mean" else percentile(latencies, PERCENTILES[name])


def _interval(values: Draws) -> dict[str, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return {"low": float(low), "high": float(high)}


def read(path: Path) -> list[dict[str, Any]]:
    """Return the runs of an earlier result of `tledge bench --json`.

    Raises:
        InputError: there is no such file, or it is no such result.
    """
    document = results.read(path)
    runs: list[dict[str, Any]] = document.get("runs", [document])
    try:
        for run in runs:
            _ = [run[key] for key in (*WORDS, "variant", "backend", "threads", "latency_interval_ms")]
            times = [run["latency_ms"][name] for name in FIGURES]
            times += [run["latency_interval_ms"][name][end] for name in FIGURES for end in ("low", "high")]
            if not all(0 < time < math.inf for time in times):
                raise ValueError("a latency is not above 0")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} is no result of a bench, or of one too old to compare with: {error!r}",
            hint=results.HINT,
            path=path,
        ) from error
    return runs


def check(
    earlier: Sequence[dict[str, Any]],
    path: Path,
    *,
    scenario: str,
    source: str,
    sizes: Sequence[int],
    data_sha256: str,
) -> None:
    """Refuse an earlier result that was not measured as the coming one will be (InputError)."""
    here = {
        "scenario": (scenario,),
        "from": (source,),
        "images_per_query": sizes,
        "data_sha256": (data_sha256,),
    }
    for run in earlier:
        for key, allowed in here.items():
            if run[key] not in allowed:
                raise InputError(
                    f"{path} was measured with {WORDS[key]}: {run[key]} there, {allowed[0]} here",
                    hint="Measure both alike, or leave --compare out.",
                    path=path,
                )


def name(run: dict[str, Any]) -> str:
    """Return what a run is called among others."""
    size = run["images_per_query"]
    each = "" if size == 1 else f", {size} images a query"
    return f"{run['variant']}@{run['backend']}, {run['threads']} threads{each}"


def against(
    runs: Sequence[dict[str, Any]], earlier: Sequence[dict[str, Any]], path: Path
) -> list[dict[str, Any]]:
    """Return each run as a share of its namesake of an earlier result, else of its first that is alike.

    The two were not interleaved: the intervals hold what varied within each run, not what changed on the
    machine between them. `machine` is what plain work took now, as a share of what it took then.
    """
    found = []
    for run in runs:
        alike = [one for one in earlier if one["images_per_query"] == run["images_per_query"]]
        other = next((one for one in alike if name(one) == name(run)), alike[0] if alike else None)
        if other is not None:
            latency = {figure: _quotient(run, other, figure) for figure in FIGURES}
            to = f"{name(other)} ({path.name})"
            machine = _machine(run, other)
            found.append(
                {"of": name(run), "to": to, "interleaved": False, "machine": machine, "latency": latency}
            )
    return found


def _machine(run: dict[str, Any], other: dict[str, Any]) -> float | None:
    """Return how long the noise test's work took as a share of the other run; None if that is unknown."""
    if run["threads"] != other["threads"]:
        return None
    try:
        now, then = (block_ms(one["environment"]["noise"]) for one in (run, other))
        return now / then
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None  # an older result, or one that somebody changed: nothing else depends on it


def block_ms(noise: dict[str, Any]) -> float:
    """Return how long a block of the noise test's work took before and after a run on average, in ms."""
    looks = [noise["before"], noise["after"]]
    return sum(float(look["p50"]) / int(look["blocks"]) for look in looks) / len(looks)


def _quotient(run: dict[str, Any], other: dict[str, Any], figure: str) -> dict[str, float]:
    """Return the ratio of two independent figures, its interval from theirs (on a logarithmic scale)."""
    ratio = run["latency_ms"][figure] / other["latency_ms"][figure]
    half = [
        math.log(one["latency_interval_ms"][figure]["high"] / one["latency_interval_ms"][figure]["low"]) / 2
        for one in (run, other)
    ]
    spread = math.exp(math.hypot(*half))
    return {"ratio": ratio, "low": ratio / spread, "high": ratio * spread}
