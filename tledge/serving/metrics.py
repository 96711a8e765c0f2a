"""What a server has done so far, in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
# Seconds: a small network answers in milliseconds, a full queue in seconds.
BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Counts of one application; a registry of its own, so that two in one process do not meet."""

    def __init__(self, variant: str, backend: str) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "tledge_requests", "Requests to /predict, by HTTP status.", ["status"], registry=self._registry
        )
        self._seconds = Histogram(
            "tledge_request_seconds",
            "Seconds from the first byte to the answer of a request that was labelled.",
            registry=self._registry,
            buckets=BUCKETS,
        )
        self.inside = Gauge(
            "tledge_requests_inside", "Requests being read or answered.", registry=self._registry
        )
        model = Gauge("tledge_model", "1; what is run.", ["variant", "backend"], registry=self._registry)
        model.labels(variant, backend).set(1)

    def count(self, status: int, seconds: float) -> None:
        """Count one request to /predict that ended with this HTTP status."""
        self._requests.labels(str(status)).inc()
        if status == 200:
            self._seconds.observe(seconds)

    def text(self) -> bytes:
        """Return the exposition, of CONTENT_TYPE."""
        return generate_latest(self._registry)
