"""A network that breaks INT8 in one place: that place is found and left in float, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from tests.quantization import networks
from tledge.progress import Progress
from tledge.quantization import bias
from tledge.quantization.build import Built, Network, Tune, answers, attempt, find_ranges
from tledge.quantization.fallback import fall_back
from tledge.quantization.graph import Graph, load, session
from tledge.quantization.observe import observe
from tledge.quantization.placement import place
from tledge.quantization.rules import Target

SILENT = Progress.silent()


def broken():
    """One channel into the last convolution is 300 times the others, and is undone there."""
    return load(networks.scaled_apart(slice(5, 6), 300).SerializeToString())


def prepared(target: Target):
    model = broken()
    placement = place(Graph(model), target)
    batches = [networks.images(8, seed) for seed in range(4)]
    observers = observe(model, [placement], batches, total=32, threads=1, progress=SILENT)
    corrections = bias.correct(model, placement.layers, batches[0], threads=1)
    tensors = networks.images(32, 50)
    logits = answers(session(model), tensors)
    tune = Tune(tensors, logits.argmax(axis=1), logits)
    network, found = Network(model, observers), find_ranges(placement, observers, "minmax")
    built = attempt(network, placement, "minmax", found, corrections, step="correction", tune=tune, threads=1)
    return network, built, corrections, tune


def repaired(prepared, within) -> Built:
    network, built, corrections, tune = prepared
    return fall_back(network, built, corrections, tune, within=within, threads=1, progress=SILENT)


@pytest.mark.parametrize("target", ["int8", "int8-cpu"])
def test_the_layer_that_does_the_harm_is_left_in_float(target: Target) -> None:
    parts = prepared(target)
    budget = parts[1].chosen.kl / 3
    mended = repaired(parts, lambda trial: trial.kl < budget)
    # On x86 what makes the tensor is left in float with what reads it.
    assert set(mended.chosen.floating) == {"node_last"} | ({"node_wide"} if target == "int8-cpu" else set())
    assert mended.chosen.kl < budget
    assert len(mended.trials) > len(parts[1].trials)


def test_within_the_budget_nothing_is_done() -> None:
    parts = prepared("int8")
    assert repaired(parts, lambda trial: True) is parts[1]


def test_where_no_state_is_enough_the_best_is_returned() -> None:
    parts = prepared("int8")
    mended = repaired(parts, lambda trial: False)
    assert mended.chosen.kl == min(trial.kl for trial in mended.trials)
    assert np.isfinite(mended.chosen.kl)
