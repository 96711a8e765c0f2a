"""Write ranges.json beside this file: the ranges of some tensors by every method, for the tests to recompute.

The values are quantiles of known distributions, so that no random generator is involved.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from tledge.quantization import ranges
from tledge.quantization.observers import Observer
from tledge.quantization.ranges import ASYMMETRIC, SYMMETRIC

PLACE = Path(__file__).with_name("ranges.json")


def tensors() -> dict[str, np.ndarray]:
    """Return the tensors: float32, 65536 values each."""
    share = (np.arange(65536) + 0.5) / 65536
    laplace = np.where(share < 0.5, np.log(2 * share), -np.log(2 - 2 * share))
    logistic = np.log(share / (1 - share))
    cauchy = np.tan(math.pi * (share - 0.5))
    values = {
        "uniform": 2 * share - 1,
        "laplace": laplace,
        "logistic after ReLU": np.maximum(logistic, 0),
        "logistic after ReLU6": np.clip(2 * logistic, 0, 6),
        "cauchy, clipped at 50": np.clip(cauchy, -50, 50),
        "swish of a logistic": 2 * logistic / (1 + np.exp(-2 * logistic)),
    }
    return {name: array.astype(np.float32) for name, array in values.items()}


def table() -> dict[str, dict[str, dict[str, list[float]]]]:
    """Return [low, high] by tensor, scheme and method."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name, values in tensors().items():
        observer = Observer(name)
        observer.observe(values)
        found[name] = {}
        for scheme, word in ((SYMMETRIC, "symmetric"), (ASYMMETRIC, "asymmetric")):
            by_method = {method: ranges.find(observer, method, scheme) for method in ranges.METHODS}
            found[name][word] = {method: [one.low, one.high] for method, one in by_method.items()}
    return found


if __name__ == "__main__":
    PLACE.write_text(json.dumps(table(), indent=1) + "\n")
