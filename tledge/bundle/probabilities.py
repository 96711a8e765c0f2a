"""`probabilities.json`: how logits become probabilities that can be believed, and which answers are none.

The temperature of a variant divides its logits before the softmax (C. Guo et al., "On calibration of modern
neural networks", ICML 2017). It changes no answer, only how sure it is. An answer whose probability is below
`reject_below` is given as none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tledge.errors import BundleError, UsageError

if TYPE_CHECKING:
    from tledge.bundle.store import Bundle

NAME = "probabilities.json"
SCHEMA = 1


@dataclass(frozen=True)
class Probabilities:
    """Temperatures by variant (1 for one without), and the least probability of an answer, 0 to 1."""

    temperatures: Mapping[str, float] = field(default_factory=dict)
    reject_below: float = 0.0

    def temperature(self, variant: str | None) -> float:
        """Return a variant's temperature; torch's network (None) is that of fp32."""
        return self.temperatures.get(variant or "fp32", 1.0)

    def with_temperatures(self, fitted: Mapping[str, float]) -> Probabilities:
        """Return these with some temperatures added or replaced."""
        return replace(self, temperatures={**self.temperatures, **fitted})

    def encode(self) -> bytes:
        """Return the file's bytes."""
        document = {
            "schema": SCHEMA,
            "temperatures": {name: round(value, 6) for name, value in sorted(self.temperatures.items())},
            "reject_below": self.reject_below,
        }
        return (json.dumps(document, indent=1) + "\n").encode()


def checked_threshold(value: float) -> float:
    """Return a least probability as it is; UsageError where it is none."""
    if not 0 <= value < 1:
        raise UsageError(
            f"a probability of {value:g} is nothing to reject below",
            hint="It is 0 or more (0: every answer counts), and less than 1.",
        )
    return value


def read(bundle: Bundle) -> Probabilities:
    """Return what the bundle says of probabilities; those as they come where it says nothing.

    Raises:
        BundleError: the file is damaged or newer.
    """
    if not bundle.has(NAME):
        return Probabilities()
    try:
        document = json.loads(bundle.read(NAME))
        schema = document["schema"]
        found = Probabilities(
            {str(name): float(value) for name, value in document["temperatures"].items()},
            float(document["reject_below"]),
        )
        sound = all(0 < value < float("inf") for value in found.temperatures.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{NAME} of {bundle.path} is not readable: {error}", path=bundle.path) from error
    if schema != SCHEMA or not sound or not 0 <= found.reject_below < 1:
        raise BundleError(
            f"{NAME} of {bundle.path} is not one that this tledge reads (schema {schema})",
            hint="Use the tledge that wrote it, or calibrate the bundle again.",
            path=bundle.path,
        )
    return found
