"""`tledge calibrate` as a whole, on a small network with real files: what it writes, refuses and repeats."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.quantization import networks
from tests.runtime.bundles import LABELS, png
from tledge.bundle import Bundle, Row
from tledge.errors import AccuracyError, BundleError, InputError, UsageError
from tledge.evaluation.stage import Stage
from tledge.quantization import CalibrateSettings, calibrate, calibration_file
from tledge.quantization.calibrate import check_gate
from tledge.quantization.images import Image, balanced
from tledge.runtime import open_session

SETTINGS = CalibrateSettings(images=16, tune=8, max_drop=100.0, min_agreement=0.0, threads=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated")
    calibrate(networks.bundle(folder, networks.mobile()), settings=SETTINGS)
    return folder


def snapshot(bundle: Bundle) -> dict[str, str]:
    again = Bundle.open(bundle.path)
    return {name: again.sha256(name) for name in again.names}


def test_it_writes_three_variants_with_their_rows_in_one_commit(made: Path) -> None:
    bundle = Bundle.open(made / "net.tledge")
    assert bundle.variants == ("fp32", "fp16", "int8", "int8-cpu")
    assert bundle.problems() == ()
    for variant in ("int8", "int8-cpu", "fp16"):
        row = bundle.row(f"{variant}@onnxruntime")
        assert row is not None
        assert row.parent == "fp32@onnxruntime"
        assert row.n == 12
        assert row.agreement is not None
        assert row.agreement >= 75
        assert row.file_sha256 == bundle.sha256(f"{variant}.onnx")
        session = open_session(bundle.file(f"{variant}.onnx"), "onnxruntime", variant=variant)
        assert session.run(networks.images(3)).shape == (3, 5)
    assert [entry["stage"] for entry in bundle.lineage].count("calibrate") == 1
    assert bundle.settings["calibrate"]["images"] == 16


def test_the_calibration_is_whole_and_a_graph_can_be_written_from_it(made: Path) -> None:
    from tledge.quantization import emit_cpu
    from tledge.quantization.graph import Graph, load
    from tledge.quantization.placement import place

    bundle = Bundle.open(made / "net.tledge")
    document = calibration_file.read(bundle)
    assert document["images"] == sorted(document["images"])
    assert len(document["images"]) == 16
    assert not set(document["images"]) & set(document["tune"])
    for tensor in document["tensors"].values():
        counts = list(map(int, tensor["counts"].split()))
        assert sum(counts) == tensor["count"]
        assert counts[0]
        assert counts[-1]
    model = load(bundle.read("fp32.onnx"))
    again = emit_cpu.emit(
        model,
        place(Graph(model), "int8-cpu", bits=document["variants"]["int8-cpu"]["weight_bits"]),
        calibration_file.ranges(document, "int8-cpu"),
        calibration_file.corrections(document, "int8-cpu", model),
    )
    assert again.SerializeToString() == bundle.read("int8-cpu.onnx")


def test_two_runs_give_the_same_files(made: Path, tmp_path: Path) -> None:
    first = Bundle.open(made / "net.tledge")
    other = networks.bundle(tmp_path, networks.mobile())
    calibrate(other, settings=SETTINGS)
    other = Bundle.open(other.path)
    for name in ("calibration.json", "int8.onnx", "int8-cpu.onnx", "fp16.onnx"):
        assert first.sha256(name) == other.sha256(name), name
    calibrate(other, settings=SETTINGS)
    assert Bundle.open(other.path).sha256("calibration.json") == first.sha256("calibration.json")


def test_a_gate_that_fails_changes_nothing(tmp_path: Path) -> None:
    bundle = networks.bundle(tmp_path, networks.mobile())
    before = snapshot(bundle)
    with pytest.raises(AccuracyError, match="Tried, judged on tune") as caught:
        calibrate(bundle, settings=dataclasses.replace(SETTINGS, max_drop=-100.0))
    assert caught.value.exit_code == 5
    assert snapshot(bundle) == before


def test_an_agreement_that_is_not_reached_fails_too(tmp_path: Path) -> None:
    bundle = networks.bundle(tmp_path, networks.mobile())
    with pytest.raises(AccuracyError, match="of the answers"):
        calibrate(bundle, settings=dataclasses.replace(SETTINGS, min_agreement=100.5))


def test_missing_train_images_name_the_way_out(tmp_path: Path) -> None:
    bundle = networks.bundle(tmp_path, networks.mobile())
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    with pytest.raises(InputError, match="are gone") as caught:
        calibrate(bundle, settings=SETTINGS)
    assert f"tledge calibrate {bundle.path} DATA" in caught.value.hint
    rows = calibrate(bundle, tmp_path / "elsewhere", SETTINGS)
    stages = [row.stage for row in rows if row.backend == "onnxruntime"]
    assert stages == [f"{v}@onnxruntime" for v in ("int8", "int8-cpu", "fp16")]


def test_a_changed_train_image_is_named(tmp_path: Path) -> None:
    bundle = networks.bundle(tmp_path, networks.mobile(), train=8)
    for file in (tmp_path / "data").rglob("*.png"):
        file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(InputError, match=r"not the image that the network was trained on"):
        calibrate(bundle, settings=SETTINGS)


def test_an_imported_bundle_is_scored_on_the_folder(tmp_path: Path) -> None:
    bundle = networks.bundle(tmp_path, networks.mobile(), eval_images=0)
    with bundle.writing() as writer:
        writer.remove("train.json")
        writer.commit("test")
    bundle = Bundle.open(bundle.path)
    with pytest.raises(InputError, match="remembers no train images"):
        calibrate(bundle, settings=SETTINGS)
    rows = calibrate(bundle, tmp_path / "data", SETTINGS)
    assert rows[0].n > 0
    ledger = {row.stage: row for row in Bundle.open(bundle.path).ledger}
    assert ledger["fp32@onnxruntime"].n == rows[0].n


def test_images_of_one_class_are_refused(tmp_path: Path) -> None:
    bundle = networks.bundle(tmp_path, networks.mobile(), classes=1)
    with pytest.raises(InputError, match="of one class") as caught:
        calibrate(bundle, settings=SETTINGS)
    assert caught.value.exit_code == 4


def test_no_images_are_refused(tmp_path: Path) -> None:
    bundle = networks.bundle(tmp_path, networks.mobile())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        calibrate(bundle, tmp_path / "empty", SETTINGS)


def spoiled(name: str, value: float) -> onnx.ModelProto:
    model = networks.mobile()
    for tensor in model.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor).copy()
            array[...] = value
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    return model


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_activations_that_are_not_finite_name_the_tensor(value: float, tmp_path: Path) -> None:
    bundle = networks.bundle(tmp_path, spoiled("thin.b", value))
    with pytest.raises(InputError, match="thin") as caught:
        calibrate(bundle, settings=SETTINGS)
    assert caught.value.exit_code == 4


def test_a_network_that_answers_every_image_alike_is_refused(tmp_path: Path) -> None:
    bundle = networks.bundle(tmp_path, spoiled("head.w", 0.0))
    with pytest.raises(InputError, match="every image alike"):
        calibrate(bundle, settings=SETTINGS)


def test_a_dead_layer_is_said_and_calibrated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tledge.progress import Progress

    model = spoiled("thin.w", 0.0)
    for tensor in model.graph.initializer:
        if tensor.name == "thin.b":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(16, np.float32), "thin.b"))
    calibrate(networks.bundle(tmp_path, model), settings=SETTINGS, progress=Progress(terminal=False))
    assert "constant on all images" in capsys.readouterr().err


def test_a_quantised_graph_is_refused(made: Path, tmp_path: Path) -> None:
    quantised = onnx.load_from_string(Bundle.open(made / "net.tledge").read("int8-cpu.onnx"))
    with pytest.raises(InputError, match="quantised already") as caught:
        calibrate(networks.bundle(tmp_path, quantised), settings=SETTINGS)
    assert caught.value.exit_code == 4


def test_a_calibration_of_another_network_is_refused(made: Path, tmp_path: Path) -> None:
    bundle = networks.bundle(tmp_path, networks.mobile(seed=1))
    with bundle.writing() as writer:
        writer.put("calibration.json", Bundle.open(made / "net.tledge").read("calibration.json"))
        writer.commit("test")
    with pytest.raises(BundleError, match="another network") as caught:
        calibration_file.read(Bundle.open(bundle.path))
    assert caught.value.exit_code == 6


def test_a_newer_or_broken_calibration_is_refused(made: Path, tmp_path: Path) -> None:
    bundle = networks.bundle(tmp_path, networks.mobile())
    document = json.loads(Bundle.open(made / "net.tledge").read("calibration.json"))
    for data in (json.dumps(document | {"schema": 2}), "{", "[]"):
        with bundle.writing() as writer:
            writer.put("calibration.json", data.encode())
            writer.commit("test")
        with pytest.raises(BundleError):
            calibration_file.read(Bundle.open(bundle.path))


def test_one_image_a_class_leaves_nothing_to_score_on(tmp_path: Path) -> None:
    bundle = networks.bundle(tmp_path, networks.mobile(), eval_images=0)
    for seed, label in enumerate(LABELS):
        folder = tmp_path / "single" / label
        folder.mkdir(parents=True)
        (folder / "one.png").write_bytes(png(seed))
    before = snapshot(bundle)
    with pytest.raises(InputError, match="leaves no images to score on") as caught:
        calibrate(bundle, tmp_path / "single", settings=SETTINGS)
    assert caught.value.exit_code == 4
    assert snapshot(bundle) == before


def test_unknown_settings_are_refused(tmp_path: Path) -> None:
    bundle = networks.bundle(tmp_path, networks.mobile())
    with pytest.raises(UsageError, match="no such ranges"):
        calibrate(bundle, settings=dataclasses.replace(SETTINGS, ranges="best"))
    with pytest.raises(UsageError, match="at least one"):
        calibrate(bundle, settings=dataclasses.replace(SETTINGS, images=0))


def test_images_are_balanced_and_sorted() -> None:
    from tledge.data import Sample

    def image(label: int, digest: str) -> Image:
        return Image(Sample(digest, label, Path(digest)), label, digest)

    pool = [image(0, f"a{i}") for i in range(9)] + [image(1, f"b{i}") for i in range(2)] + [image(2, "c0")]
    chosen = balanced(pool, 6)
    assert [one.sha256 for one in chosen] == ["a0", "a1", "a2", "b0", "b1", "c0"]
    assert balanced(pool[::-1], 6) == chosen
    assert len(balanced(pool, 100)) == len(pool)


def test_an_operator_that_no_rule_knows_stays_float_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tledge.progress import Progress

    net = networks.Net()
    stem = net.node("Relu", [net.conv("images", "stem", (16, 3, 3, 3))], "stem.act")
    odd = net.node("Softsign", [stem], "odd")
    net.head(net.node("Relu", [net.conv(odd, "last", (16, 16, 3, 3))], "last.act"), 16)
    bundle = networks.bundle(tmp_path, net.model())
    calibrate(bundle, settings=SETTINGS, progress=Progress(terminal=False))
    assert "left in float, because no rule is known for them: Softsign" in capsys.readouterr().err
    for variant in calibration_file.read(Bundle.open(bundle.path))["variants"].values():
        assert {"node": "node_odd", "op": "Softsign", "rule": "unknown"} in variant["float"]
        assert variant["layers"][:2] == ["node_stem", "node_last"]


@pytest.mark.parametrize(
    ("saturates", "bits", "refused"), [(False, 8, True), (True, 8, False), (True, 7, True)]
)
def test_what_saturating_sums_lose_is_not_the_gates_affair(
    monkeypatch, saturates: bool, bits: int, refused: bool
) -> None:
    from tledge.evaluation.paired import compare

    logits = np.eye(40, dtype=np.float32)
    lost = compare(logits, np.roll(logits, 1, axis=1), np.arange(40))
    row = Row(
        "int8-cpu@onnxruntime", None, "int8-cpu", "onnxruntime", "cpu", 40, 0, 0, 9, 0, 0, 40, 1, "d", "f"
    )
    # The package's `calibrate` is the function: the module is reached by what is in it.
    monkeypatch.setitem(check_gate.__globals__, "saturates_int8", lambda: saturates)
    scored = [Stage(row, logits, lost, ())]
    if refused:
        with pytest.raises(AccuracyError, match="int8-cpu loses 100"):
            check_gate(scored, {}, dataclasses.replace(SETTINGS, max_drop=1.0), bits)
    else:
        check_gate(scored, {}, dataclasses.replace(SETTINGS, max_drop=1.0), bits)
    worse = [dataclasses.replace(scored[0], row=dataclasses.replace(row, variant="int8"))]
    with pytest.raises(AccuracyError, match="int8 loses 100"):
        check_gate(worse, {}, dataclasses.replace(SETTINGS, max_drop=1.0), bits)
