"""Ranges from streamed histograms are those of a brute-force computation over stored activations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.quantization import networks
from tledge.bundle import Bundle, records
from tledge.progress import Progress
from tledge.quantization import CalibrateSettings, calibrate
from tledge.quantization.build import find_ranges
from tledge.quantization.graph import Graph, load, session, with_outputs
from tledge.quantization.observe import observe
from tledge.quantization.placement import place
from tledge.quantization.rules import TARGETS, Target

BATCHES = [networks.images(8, seed) for seed in range(5)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("make", [networks.mobile, networks.fire])
def test_ranges_are_those_of_stored_activations(make, target: Target) -> None:
    model = load(make().SerializeToString())
    placement = place(Graph(model), target)
    observers = observe(model, [placement], BATCHES, total=40, threads=2, progress=Progress.silent())
    names = [name for name in placement.tensors if name != "images"]
    opened = session(with_outputs(model, names))
    runs = [opened.run(names, {"images": batch}) for batch in BATCHES]
    stored = {name: np.concatenate(parts) for name, parts in zip(names, zip(*runs, strict=True), strict=True)}
    stored["images"] = np.concatenate(BATCHES)
    extremes = find_ranges(placement, observers, "minmax")
    percentiles = find_ranges(placement, observers, "percentile-99.99")
    for name in placement.tensors:
        values = stored[name].ravel().astype(np.float64)
        assert extremes[name].low == min(values.min(), 0)
        assert extremes[name].high == max(values.max(), 0)
        width = observers[name].width
        if target == "int8" and name not in placement.centred:
            ordered = np.sort(np.abs(values))
            wanted = ordered[int(np.ceil(0.9999 * values.size)) - 1]
            assert percentiles[name].largest == pytest.approx(wanted, abs=width)
        else:
            ordered, share = np.sort(values), 0.0001 / (2 if values.min() < 0 < values.max() else 1)
            wanted = ordered[int(np.ceil((1 - share) * values.size)) - 1]
            assert percentiles[name].high == pytest.approx(max(wanted, 0), abs=width)


def test_the_least_error_is_found_to_a_hundredth_of_the_extreme() -> None:
    model = load(networks.mobile().SerializeToString())
    placement = place(Graph(model), "int8")
    observers = observe(model, [placement], BATCHES, total=40, threads=1, progress=Progress.silent())
    found = find_ranges(placement, observers, "mse")
    values = np.concatenate(
        [session(with_outputs(model, ["sum"])).run(None, {"images": batch})[0] for batch in BATCHES]
    ).astype(np.float64)
    largest = np.abs(values).max()

    def error(limit: float) -> float:
        step = limit / 127
        return float(((np.clip(np.round(values / step), -127, 127) * step - values) ** 2).mean())

    limits = [largest * share / 100 for share in range(20, 101)]
    best = limits[int(np.argmin([error(limit) for limit in limits]))]
    assert found["sum"].largest == pytest.approx(best, abs=max(observers["sum"].width, largest / 100))


def test_two_orders_of_the_images_give_the_same_file(tmp_path: Path) -> None:
    written = []
    for order in (1, -1):
        made = networks.bundle(tmp_path / str(order), networks.mobile())
        files = made.train_files()[::order]
        with made.writing() as writer:
            writer.put("train.json", records.encode(files, root=made.train_root))
            writer.commit("test")
        settings = CalibrateSettings(images=16, tune=8, max_drop=100.0, min_agreement=0.0, threads=order + 2)
        calibrate(Bundle.open(made.path), settings=settings)
        written.append(Bundle.open(made.path).read("calibration.json"))
    assert written[0] == written[1]
