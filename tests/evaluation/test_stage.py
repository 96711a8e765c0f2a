"""A stage, from eval images to the ledger."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runtime import bundles, graphs
from tledge.bundle import Bundle
from tledge.data import decode, find
from tledge.errors import BundleError, InputError, MachineError
from tledge.evaluation import stage
from tledge.evaluation.images import data_sha256, of_bundle, of_dataset
from tledge.preprocess import preprocessor
from tledge.runtime import open_session

N = 11


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundles.make(tmp_path / "b.tledge", ("fp32", "int8-cpu"), eval_images=N)


def other_graph() -> bytes:
    """Return the same classifier with its weights turned round: its answers differ."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(graphs.classifier())
    weight = max(model.graph.initializer, key=lambda tensor: numpy_helper.to_array(tensor).size)
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    return model.SerializeToString()


def test_the_hash_of_labelled_images_is_as_written() -> None:
    pairs = [("b" * 64, "rose"), ("a" * 64, "caf\u00e9"), ("b" * 64, "daisy"), ("b" * 64, "rose")]
    b = "b" * 64
    lines = "a" * 64 + f" caf\u00e9\n{b} daisy\n{b} rose\n{b} rose\n"
    assert data_sha256(pairs) == hashlib.sha256(lines.encode()).hexdigest()
    assert data_sha256(reversed(pairs)) == data_sha256(pairs)
    assert stage.data_sha256 is data_sha256


def test_logits_are_those_of_one_image_at_a_time(bundle: Bundle) -> None:
    images = of_bundle(bundle)
    session = open_session(bundle.file("fp32.onnx"), shape=bundle.spec.shape)
    prepare = preprocessor(bundle.spec)
    found = stage.logits(session, prepare, images)
    assert found.shape == (N, 5)
    assert found.dtype == np.float32
    for row, image in zip(found, images.images, strict=True):
        expected = session.run(prepare(decode.image(image.read()))[np.newaxis])
        np.testing.assert_allclose(row, expected[0], rtol=1e-5, atol=1e-6)


def test_evaluate_writes_row_logits_and_flips(bundle: Bundle) -> None:
    row, logits = stage.evaluate(bundle, "fp32", "onnxruntime")
    again = Bundle.open(bundle.path)
    assert again.ledger == (row,)
    assert again.problems() == ()
    assert row.stage == "fp32@onnxruntime"
    assert (row.parent, row.agreement, row.flips, row.kl) == (None, None, None, None)
    assert (row.n, row.variant, row.backend, row.device) == (N, "fp32", "onnxruntime", "cpu")
    assert row.file_sha256 == again.sha256("fp32.onnx")
    lines = [(entry.sha256, again.labels[entry.label]) for entry in again.eval_images()]
    assert row.data_sha256 == data_sha256(lines)
    np.testing.assert_array_equal(np.load(io.BytesIO(again.read("logits/fp32@onnxruntime.npy"))), logits)
    np.testing.assert_array_equal(stage.read_logits(again, row.stage), logits)


def test_a_child_is_compared_with_its_parent(bundle: Bundle) -> None:
    parent, before = stage.evaluate(bundle, "fp32", "onnxruntime")
    with bundle.writing() as writer:
        writer.put("int8-cpu.onnx", other_graph())
        writer.commit("calibrate")
    row, after = stage.evaluate(Bundle.open(bundle.path), "int8-cpu", "onnxruntime")
    again = Bundle.open(bundle.path)
    assert again.ledger == (parent, row)
    flipped = np.flatnonzero(before.argmax(axis=1) != after.argmax(axis=1))
    assert row.parent == parent.stage
    assert row.flips == len(flipped) > 0
    assert row.agreement == pytest.approx(100 * (1 - len(flipped) / N))
    assert row.kl is not None
    assert row.kl > 0
    document = json.loads(again.read("flips/int8-cpu@onnxruntime.json"))
    assert document["stage"] == row.stage
    assert document["parent"] == parent.stage
    assert [flip["name"] for flip in document["flips"]] == [f"val/{index}.png" for index in flipped]
    first = document["flips"][0]
    assert first["parent"] == again.labels[before[flipped[0]].argmax()]
    assert first["stage"] == again.labels[after[flipped[0]].argmax()]
    assert first["sha256"] == again.eval_images()[flipped[0]].sha256


def test_a_parent_that_was_not_scored_is_run(bundle: Bundle) -> None:
    row, _ = stage.evaluate(bundle, "int8-cpu", "onnxruntime")
    assert row.parent == "fp32@onnxruntime"
    assert (row.agreement, row.flips) == (100, 0)
    assert Bundle.open(bundle.path).ledger == (row,)


def test_torch_is_the_parent_of_fp32(bundle: Bundle) -> None:
    images = of_bundle(bundle)
    scored = stage.score_stage(
        "torch",
        np.tile(np.arange(5, dtype=np.float32), (N, 1)),
        images,
        variant=None,
        backend="torch",
        device="cpu",
        file_sha256="0" * 64,
    )
    with bundle.writing() as writer:
        stage.put(writer, scored)
        bundle = writer.commit("finetune")
    row, _ = stage.evaluate(bundle, "fp32", "onnxruntime")
    assert row.parent == "torch"
    assert row.flips is not None
    assert [row.stage for row in Bundle.open(bundle.path).ledger] == ["torch", "fp32@onnxruntime"]


def test_a_graph_that_is_in_no_bundle_yet(bundle: Bundle) -> None:
    scored = stage.measure(bundle, "int8", "onnxruntime", graph=other_graph())
    assert scored.row.stage == "int8@onnxruntime"
    assert scored.row.file_sha256 == hashlib.sha256(other_graph()).hexdigest()
    assert scored.comparison is not None
    assert scored.comparison.n == N
    assert not Bundle.open(bundle.path).ledger


def test_within_a_writer_nothing_is_committed(bundle: Bundle) -> None:
    with bundle.writing() as writer:
        row, _ = stage.evaluate(bundle, "fp32", "onnxruntime", writer=writer)
        assert not Bundle.open(bundle.path).ledger
        assert writer.commit("finetune").ledger == (row,)


def folder(root: Path) -> Path:
    for label, name in enumerate(("bee", "dog")):
        (root / name).mkdir(parents=True)
        for index in range(3):
            (root / name / f"{index}.png").write_bytes(bundles.png(100 * label + index))
    return root


def test_a_folder_in_place_of_the_eval_images(bundle: Bundle, tmp_path: Path) -> None:
    data = find(folder(tmp_path / "data"), labels=bundle.labels)
    row, logits = stage.evaluate(bundle, "int8-cpu", "onnxruntime", data=data)
    assert row.n == len(logits) == 6
    assert row.parent == "fp32@onnxruntime"
    assert of_dataset(data, bundle.labels).labels == (1, 1, 1, 3, 3, 3)
    assert not Bundle.open(bundle.path).ledger  # rows of other images do not mix with the bundle's


def test_a_bundle_without_images_keeps_what_a_folder_gave(tmp_path: Path) -> None:
    bundle = bundles.make(tmp_path / "private.tledge")
    with pytest.raises(InputError, match="holds no images to score on"):
        stage.evaluate(bundle, "fp32", "onnxruntime")
    row, _ = stage.evaluate(bundle, "fp32", "onnxruntime", data=find(folder(tmp_path / "data")))
    assert Bundle.open(bundle.path).ledger == (row,)


def test_a_folder_with_classes_that_the_bundle_does_not_know(bundle: Bundle, tmp_path: Path) -> None:
    root = folder(tmp_path / "data")
    (root / "bee").rename(root / "wasp")
    with pytest.raises(InputError, match=r"'wasp' of .* is not among the bundle's labels"):
        stage.evaluate(bundle, "fp32", "onnxruntime", data=find(root))


def test_test_scores_before_val(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        folder(tmp_path / "data" / split)
    images = of_dataset(find(tmp_path / "data"), ("bee", "dog"))
    assert {image.name.split("/")[0] for image in images.images} == {"test"}


def test_what_a_bundle_does_not_have(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="has no variant fp16") as caught:
        stage.evaluate(bundle, "fp16", "onnxruntime")
    assert "fp32, int8-cpu" in caught.value.hint


def test_a_changed_eval_image_is_refused(bundle: Bundle) -> None:
    file = bundle.path / bundle.eval_images()[3].file
    buffer = io.BytesIO()
    Image.fromarray(bundles.pixels(99)).save(buffer, "PNG")
    file.write_bytes(buffer.getvalue()[: file.stat().st_size].ljust(file.stat().st_size, b"\0"))
    with pytest.raises(BundleError, match="other bytes"):
        stage.evaluate(bundle, "fp32", "onnxruntime")


def test_a_bundle_that_another_process_writes(bundle: Bundle) -> None:
    with bundle.writing(), pytest.raises(MachineError):
        stage.evaluate(bundle, "fp32", "onnxruntime")
