"""What INT8 costs each layer, against the same computed on stored activations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.quantization import networks
from tledge.bundle import Bundle
from tledge.cli import cli
from tledge.errors import BundleError
from tledge.quantization import CalibrateSettings, calibrate, calibration_file
from tledge.quantization.layers import describe, observer, weight_noise
from tledge.quantization.observers import Observer

SETTINGS = CalibrateSettings(images=16, tune=8, max_drop=100.0, threads=1, ranges="mse")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = networks.bundle(tmp_path_factory.mktemp("layers"), networks.mobile())
    calibrate(bundle, settings=SETTINGS)
    return bundle.path


def test_each_layer_has_its_row(made: Path) -> None:
    found = describe(Bundle.open(made))
    assert list(found) == ["int8", "int8-cpu"]
    document = calibration_file.read(Bundle.open(made))
    for variant, layers in found.items():
        assert len(layers) == 6
        int8 = [layer for layer in layers if layer.precision == "int8"]
        assert [layer.node for layer in int8] == document["variants"][variant]["layers"]
        assert all(15 < (layer.sqnr or 0) < 60 for layer in int8)
        assert all(layer.low < layer.high and 0 <= layer.clipped < 5 for layer in int8)
    covered = {layer.node: layer.low for layer in found["int8"]}
    assert covered["node_thin"] == 0.0, "a centred input has all its steps above zero"
    assert covered["node_deep"] < 0.0
    for variant, layers in found.items():
        shares = [layer.loss for layer in layers if layer.precision == "int8"]
        assert all(0 <= share <= 100 for share in shares)
        # The rest is that of the residual sum's shortcut.
        assert 50 < sum(shares) <= 100.001
        assert set(document["variants"][variant]["harm"]) >= {
            layer for layer in document["variants"][variant]["ranges"] if layer.endswith("deep.act")
        }
    head = found["int8"][-1]
    assert (head.node, head.precision, head.rule) == ("node_logits", "float", "vector-product")


def test_an_observer_comes_back_from_its_entry() -> None:
    values = np.random.default_rng(0).normal(1, 3, 50000).astype(np.float32)
    seen = Observer("x")
    seen.observe(values)
    back = observer("x", json.loads(json.dumps(calibration_file._tensor(seen))))
    assert np.array_equal(back.counts, seen.counts)
    assert (back.exponent, back.minimum, back.maximum) == (seen.exponent, seen.minimum, seen.maximum)
    assert back.squares / back.count == pytest.approx(float(np.square(values, dtype=np.float64).mean()))


def test_noise_of_weights_is_that_of_rounding() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (1, 100000)).astype(np.float32)
    # Uniform rounding has a twelfth of a step's square, the values a third.
    assert weight_noise(values, 0) == pytest.approx((1 / 127) ** 2 / 12 * 3, rel=0.02)
    assert weight_noise(np.zeros((2, 3), np.float32), 0) == 0.0


def test_the_command_shows_it(made: Path) -> None:
    text = CliRunner().invoke(cli, ["inspect", str(made), "--layers"]).output
    assert "node_deep" in text
    assert "loss %" in text
    assert "float (vector-product)" in text
    answer = CliRunner().invoke(cli, ["inspect", str(made), "--layers", "--json"]).stdout
    assert {layer["node"] for layer in json.loads(answer)["layers"]["int8"]} >= {"node_deep", "node_logits"}


def test_a_calibration_of_another_network_is_refused(made: Path, tmp_path: Path) -> None:
    other = networks.bundle(tmp_path, networks.mobile(seed=1))
    with other.writing() as writer:
        writer.put("calibration.json", Bundle.open(made).read("calibration.json"))
        writer.commit("test")
    with pytest.raises(BundleError, match="another network") as caught:
        describe(Bundle.open(other.path))
    assert caught.value.exit_code == 6
