"""The ladder of repairs: each is kept only if it helps, and the first state within the budget is the last."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from tests.quantization import networks
from tledge.progress import Progress
from tledge.quantization import by_layer, cost, equalise, expect
from tledge.quantization.build import BY_LAYER, Network, Tune, answers, find_ranges
from tledge.quantization.graph import Graph, load, session
from tledge.quantization.ladder import Job, climb
from tledge.quantization.observe import observe
from tledge.quantization.placement import place
from tledge.quantization.qdq import along, asymmetric, symmetric, weights
from tledge.quantization.rules import TARGETS

SILENT = Progress.silent()
BATCHES = [networks.images(8, seed) for seed in range(4)]


def broken():
    """One channel in eight of a layer is scaled by 100, undone in the next."""
    return load(networks.scaled_apart(slice(None, None, 8), 100).SerializeToString())


def seen(model):
    placements = [place(Graph(model), target) for target in TARGETS]
    return observe(model, placements, BATCHES, total=32, threads=1, progress=SILENT)


def climbed(
    model, within, repair=("equalisation", "correction", "rounding"), methods=("mse", "minmax"), most=100.0
):
    tensors = networks.images(32, 50)
    logits = answers(session(model), tensors)
    tune = Tune(tensors, logits.argmax(axis=1), logits)
    job = Job(tune, np.concatenate(BATCHES), methods, repair, frozenset(), within, lambda _: most, 1, SILENT)
    return climb(Network(model, seen(model)), TARGETS, job, lambda other: seen(other.model))


def test_a_network_made_to_break_comes_back_by_repair_alone() -> None:
    model = broken()
    spoiled = climbed(model, lambda trial: True)
    assert spoiled.built["int8"].chosen.expected < 97
    mended = climbed(model, lambda trial: trial.expected >= 99)
    for built in mended.built.values():
        assert built.chosen.equalised
        assert built.chosen.expected >= 99
        assert built.chosen.floating == ()
        assert built.chosen.kl < spoiled.built["int8"].chosen.kl / 20


def test_it_stops_at_the_first_state_within_the_budget() -> None:
    found = climbed(load(networks.mobile().SerializeToString()), lambda trial: True)
    for built in found.built.values():
        assert {trial.step for trial in built.trials} == {"ranges"}
    assert found.mended == {}


def test_what_one_variant_has_paid_for_the_other_tries_too() -> None:
    mobile = load(networks.mobile().SerializeToString())
    found = climbed(mobile, lambda trial: trial.variant == "int8-cpu", repair=("correction", "rounding"))
    built = found.built["int8-cpu"]
    assert {trial.step for trial in built.trials} == {"ranges", "correction", "rounding"}
    assert built.chosen.kl == min(trial.kl for trial in built.trials)


def test_steps_come_in_order_and_only_what_helps_is_kept() -> None:
    found = climbed(load(networks.mobile().SerializeToString()), lambda trial: False)
    for built in found.built.values():
        order = ("ranges", "equalisation", "correction", "rounding", "float")
        steps = [order.index(trial.step) for trial in built.trials]
        assert steps == sorted(steps)
        assert built.chosen.kl == min(trial.kl for trial in built.trials)
        assert built.chosen in built.trials


def test_no_more_is_left_in_float_than_allowed() -> None:
    model = load(networks.mobile().SerializeToString())
    for most in (0.0, 30.0):
        built = climbed(model, lambda trial: False, repair=(), most=most).built["int8"]
        assert all(trial.float_macs <= most for trial in built.trials)
        assert any(trial.floating for trial in built.trials) == (most > 0)


def test_no_state_is_tried_twice() -> None:
    found = climbed(load(networks.mobile().SerializeToString()), lambda trial: False, repair=())
    for built in found.built.values():
        floating = [trial.floating for trial in built.trials if trial.step == "float"]
        assert len(set(floating)) == len(floating)


def test_states_of_int8_cpu_tell_what_an_image_takes() -> None:
    found = climbed(load(networks.mobile().SerializeToString()), lambda trial: False, repair=())
    for trial in found.built["int8-cpu"].trials:
        assert trial.milliseconds is not None
        assert trial.milliseconds > 0
        assert f"{trial.milliseconds:.2f} ms an image" in str(trial)
    assert {trial.milliseconds for trial in found.built["int8"].trials} == {None}


def test_steps_that_a_recipe_does_not_name_are_not_tried() -> None:
    found = climbed(load(networks.mobile().SerializeToString()), lambda trial: False, repair=("rounding",))
    assert {trial.step for trial in found.built["int8"].trials} == {"ranges", "rounding", "float"}


def test_weights_that_lie_on_a_grid_are_not_mended() -> None:
    model = load(networks.mobile().SerializeToString())
    layers = place(Graph(model), "int8-cpu").layers
    for layer in layers:
        tensor = next(t for t in model.graph.initializer if t.name == layer.weight)
        integers, scales = weights(numpy_helper.to_array(tensor), layer.axis)
        exact = (integers * along(scales, layer.axis, integers.ndim)).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(exact, tensor.name))
    found = climbed(model, lambda trial: False)
    assert {trial.step for trial in found.built["int8"].trials} == {"ranges", "float"}


def test_equalising_changes_no_answer() -> None:
    model, images = broken(), networks.images(8, 9)
    layers = place(Graph(model), "int8").layers
    factors = equalise.factors(model, layers, BATCHES[0], threads=1)
    assert list(factors) == ["wide.act"]
    assert all(np.log2(by) == np.round(np.log2(by)) for by in factors["wide.act"])
    other = equalise.apply(model, factors)
    assert other.SerializeToString() != model.SerializeToString()
    np.testing.assert_array_equal(answers(session(other), images), answers(session(model), images))


def test_what_a_clip_bounds_is_not_equalised() -> None:
    model = load(networks.mobile().SerializeToString())
    assert equalise.factors(model, place(Graph(model), "int8").layers, BATCHES[0], threads=1) == {}


@pytest.mark.parametrize("target", TARGETS)
def test_each_tensor_gets_the_range_with_which_its_layers_err_least(target) -> None:
    model = load(networks.fire().SerializeToString())
    placement, observers, images = place(Graph(model), target), seen(model), networks.images(8, 4)
    methods = ("minmax", "percentile-99.99", "mse", "entropy")
    candidates = [find_ranges(placement, observers, method) for method in methods]
    chosen = by_layer.choose(model, placement, candidates, images, threads=1)
    # By brute force, of the first 3 x 3 convolution after the stem: its weights over the stored errors.
    from tledge.quantization.graph import with_outputs

    values = session(with_outputs(model, ["stem.act"])).run(None, {"images": images})[0]
    weights = {name: Graph(model).constants[f"{name}.w"] for name in ("left", "right")}
    padded = np.lib.stride_tricks.sliding_window_view
    errors = []
    for one in candidates:
        scale = (symmetric if target == "int8" else asymmetric)(one["stem.act"])
        low, high = (-128, 127) if target == "int8" else (0, 255)
        integers = np.clip(np.round(values / np.float32(scale.scale)) + scale.zero_point, low, high)
        error = (integers - scale.zero_point) * scale.scale - values
        left = np.einsum("oc,nchw->nohw", weights["left"][:, :, 0, 0], error)
        around = padded(np.pad(error, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), axis=(2, 3))
        right = np.einsum("ocij,nchwij->nohw", weights["right"], around)
        errors.append(float((left**2).sum() + (right**2).sum()) if target == "int8" else 0.0)
    if target == "int8":
        assert chosen["stem.act"] == candidates[int(np.argmin(errors))]["stem.act"]
    for name, found in chosen.items():
        assert found in [one[name] for one in candidates]


def test_ranges_by_layer_are_one_of_the_trials() -> None:
    found = climbed(load(networks.fire().SerializeToString()), lambda trial: True)
    assert [trial.ranges for trial in found.built["int8"].trials] == ["mse", BY_LAYER]


def test_expected_agreement_is_what_the_noise_costs_on_average() -> None:
    random = np.random.default_rng(0)
    parent = random.standard_normal((40_000, 10)).astype(np.float32)
    for noise in (0.02, 0.1):
        child = parent + noise * random.standard_normal(parent.shape).astype(np.float32)
        kept = 100 * (child.argmax(axis=1) == parent.argmax(axis=1)).mean()
        some = [expect.agreement(parent[i : i + 64], child[i : i + 64]) for i in range(0, 40_000, 64)]
        assert np.mean(some) == pytest.approx(kept, abs=0.25 * (100 - kept))
        assert np.std(some) < 0.8 * 100 * np.sqrt(kept / 100 * (1 - kept / 100) / 64)
    assert expect.agreement(parent, parent) == 100


def test_the_share_of_multiplications_is_that_of_the_shapes() -> None:
    graph = Graph(load(networks.mobile().SerializeToString()))
    counts = cost.macs(graph)
    assert counts["node_stem"] == 16 * 16 * 16 * 27
    assert counts["node_deep"] == 16 * 16 * 32 * 9
    assert counts["node_logits"] == 5 * 32
    assert cost.share(graph, ["node_deep"]) == 100 * counts["node_deep"] / sum(counts.values())
    assert cost.share(graph, counts) == 100
