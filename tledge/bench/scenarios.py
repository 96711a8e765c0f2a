"""The scenarios of MLPerf Inference, and what a user may ask of a run."""

from __future__ import annotations

from dataclasses import dataclass

from tledge.bench.load import BEHIND_SECONDS, Rules
from tledge.bench.percentiles import PERCENTILES, Budget
from tledge.bench.queries import SOURCES
from tledge.errors import UsageError


@dataclass(frozen=True)
class Scenario:
    """How queries come: `per_query` images each; a run makes `queries` at least; `headline` sums it up.

    The numbers are MLPerf's (mlperf.conf), but for `queries` of "offline", whose MLPerf run is longer.
    """

    name: str
    per_query: int
    queries: int
    headline: str


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("single-stream", 1, 1024, "p90"),
        Scenario("multi-stream", 8, 662, "p99"),
        Scenario("server", 1, 1024, "p99"),
        Scenario("offline", 4, 256, "throughput"),
    )
}


NEEDED = {"p90": 64, "p99": 662}  # queries for an early-stopping estimate


@dataclass(frozen=True)
class Settings:
    """What a run is asked to do.

    `duration` is the least it lasts, in s; `source` where a query starts; `rate` (queries a second) belongs
    to the scenario "server" alone, as does having to give `budget_ms`; `percentile` (0 to 100, None: the
    scenario's own) is what the budget holds for.
    """

    scenario: Scenario
    source: str = "jpeg"
    duration: float = 10.0
    rate: float | None = None
    budget_ms: float | None = None
    percentile: float | None = None
    seed: int = 0

    @property
    def budget(self) -> Budget | None:
        """Return the bound that the run is held against, if there is one."""
        if self.budget_ms is None:
            return None
        usual = PERCENTILES.get(self.scenario.headline, 0.99)
        return Budget(self.budget_ms, usual if self.percentile is None else self.percentile / 100)

    def queries(self, per_query: int) -> int:
        """Return the least number of queries of so many images.

        Queries of another size than MLPerf's have as many images together, and are enough for the headline.
        """
        usual = self.scenario
        alike = -(-usual.queries * usual.per_query // per_query)
        return max(alike, NEEDED.get(usual.headline, 1))

    def rules(self, per_query: int) -> Rules:
        """Return how the load is made."""
        return Rules(
            self.duration,
            self.queries(per_query),
            per_query,
            self.rate,
            behind=max(BEHIND_SECONDS, (self.budget_ms or 0) / 100),
            seed=self.seed,
        )


def settings(
    scenario: str,
    *,
    source: str = "jpeg",
    duration: float = 10.0,
    rate: float | None = None,
    budget_ms: float | None = None,
    percentile: float | None = None,
    seed: int = 0,
) -> Settings:
    """Return the settings, checked. Raises UsageError, with what would be right."""
    if scenario not in SCENARIOS:
        raise UsageError(
            f"there is no scenario {scenario!r}", hint=f"The scenarios are {', '.join(SCENARIOS)}."
        )
    if source not in SOURCES:
        raise UsageError(f"a query cannot start from {source!r}", hint=f"It is one of {', '.join(SOURCES)}.")
    if not 0 < duration < float("inf"):
        raise UsageError(
            f"the duration is {duration:g} s", hint="Give more than 0 seconds; 10 is the default."
        )
    if scenario == "server" and (rate is None or budget_ms is None):
        raise UsageError(
            "the scenario server needs a rate and a bound",
            hint="Say how many queries come a second and how long each may take: --rate 50 --budget-ms 15.",
        )
    if rate is not None and scenario != "server":
        raise UsageError(f"the scenario {scenario} has no rate", hint="--rate belongs to --scenario server.")
    if rate is not None and not 0 < rate < float("inf"):
        raise UsageError(f"the rate is {rate:g}/s", hint="Give more than 0 queries a second.")
    if budget_ms is not None and not 0 < budget_ms < float("inf"):
        raise UsageError(f"the budget is {budget_ms:g} ms", hint="Give more than 0 ms.")
    if percentile is not None and budget_ms is None:
        raise UsageError("a percentile without a budget says nothing", hint="Give --budget-ms too.")
    if percentile is not None and not 0 < percentile < 100:
        raise UsageError(f"there is no percentile {percentile:g}", hint="Give one between 0 and 100.")
    return Settings(SCENARIOS[scenario], source, duration, rate, budget_ms, percentile, seed)
