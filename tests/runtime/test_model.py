from __future__ import annotations

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tledge
from tests.runtime import bundles, graphs
from tledge.errors import BundleError, InputError, UsageError
from tledge.runtime import Prediction, backends, choose, machine
from tledge.runtime.model import BATCH
from tledge.runtime.reading import read_file

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bundles.make(tmp_path_factory.mktemp("model") / "tiny.tledge")


@pytest.fixture(scope="module")
def model(bundle):
    return tledge.load(bundle.path, backend="onnxruntime")


def test_every_kind_of_image_gives_the_same_answer(model, tmp_path):
    data, array = bundles.png(3), bundles.pixels(3)
    path = tmp_path / "three.png"
    path.write_bytes(data)
    answers = [model.predict(image) for image in (path, str(path), data, array, Image.open(io.BytesIO(data)))]
    assert [answer.file for answer in answers] == [str(path), str(path), "", "", ""]
    assert len({(answer.label, answer.probability, answer.top) for answer in answers}) == 1
    assert model.predict([path, data, array]) == answers[:1] + answers[2:4]


def test_the_answer_is_the_graphs_own(model):
    image = bundles.pixels(1)
    tensor = model.preprocess(image)
    assert tensor.shape == (1, 3, 16, 16)
    assert tensor.dtype == np.float32
    logits = graphs.expected(tensor)[0]
    probabilities = np.exp(logits) / np.exp(logits).sum()
    answer = model.predict(image, top_k=2)
    assert answer.index == int(logits.argmax())
    assert answer.label == bundles.LABELS[answer.index]
    assert answer.probability == pytest.approx(probabilities.max(), rel=1e-5)
    assert [guess.label for guess in answer.top] == [bundles.LABELS[i] for i in np.argsort(-logits)[:2]]
    assert len(model.predict(image, top_k=99).top) == 5


def test_a_list_is_answered_as_its_images_are(model):
    images = [bundles.pixels(seed, (10 + seed, 30)) for seed in range(2 * BATCH + 1)]
    together = model.predict(images)
    for image, answer in zip(images, together, strict=True):
        alone = model.predict(image)
        assert answer.label == alone.label
        assert answer.probability == pytest.approx(alone.probability, rel=1e-5)
    assert model.preprocess(images).shape == (2 * BATCH + 1, 3, 16, 16)
    assert model.predict([]) == []


def test_an_image_that_cannot_be_read_raises_alone_and_is_answered_in_a_row(model, tmp_path):
    good, text, empty = tmp_path / "good.png", tmp_path / "text.jpg", tmp_path / "empty.png"
    good.write_bytes(bundles.png(0))
    text.write_text("no image")
    empty.write_bytes(b"")
    gone = tmp_path / "gone.png"
    for bad in (text, empty, gone, tmp_path):
        with pytest.raises(InputError) as raised:
            model.predict(bad)
        assert str(bad) in raised.value.message
    files = [good, text, good, empty, gone, tmp_path, good]
    answers = list(model.predict_each(files))
    assert [answer.file for answer in answers] == list(map(str, files))
    assert [answer.error is None for answer in answers] == [True, False, True, False, False, False, True]
    for file, answer in zip(files, answers, strict=True):
        if answer.error is not None:
            assert str(file) in answer.error
            assert (answer.label, answer.index, answer.probability, answer.top) == (None, None, None, ())
    assert answers[0].label == answers[2].label == model.predict(good).label


def test_a_stream_is_answered_image_by_image(model):
    taken = []

    def images():
        for seed in range(5):
            taken.append(seed)
            yield bundles.pixels(seed)

    for count, _ in enumerate(model.predict_each(images(), batch=1), start=1):
        assert len(taken) == count


def test_an_array_that_is_no_image_is_refused(model):
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(InputError):
            model.predict(wrong)


def test_threads_share_one_model(model):
    images = [bundles.pixels(seed, (12 + seed % 9, 40)) for seed in range(40)]
    alone = [model.predict(image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(model.predict, images)) == alone


def test_a_jpeg_read_straight_has_the_bits_of_one_decoded_whole(model):
    buffer = io.BytesIO()
    Image.fromarray(bundles.pixels(5, (90, 70))).save(buffer, "JPEG", quality=90)
    whole = model.tensor([model.pixels(buffer.getvalue())])
    np.testing.assert_array_equal(model.preprocess(buffer.getvalue()), whole)
    assert model.straight(bundles.png(5)) is None
    assert model.straight(buffer.getvalue()[:400]) is None


def test_the_json_of_an_answer(model):
    answer = model.predict(bundles.png(0), top_k=1).as_dict()
    assert list(answer) == ["file", "label", "index", "probability", "top", "error", "rejected"]
    assert answer["top"] == [{"label": answer["label"], "probability": answer["probability"]}]
    assert Prediction("x.jpg", None, None, None, (), "broken").as_dict()["error"] == "broken"


def test_what_was_chosen_is_said(model):
    assert (model.backend, model.variant, model.device) == ("onnxruntime", "fp32", "cpu")
    assert model.labels == bundles.LABELS


def test_a_bundle_that_does_not_fit_together_is_refused(tmp_path):
    bundle = bundles.make(tmp_path / "b.tledge")
    with bundle.writing() as writer:
        writer.put("labels.txt", b"ant\nbee\n")
        writer.commit("test")
    with pytest.raises(BundleError, match=r"5 answers, and labels\.txt names 2"):
        tledge.load(bundle.path, backend="onnxruntime")


def test_loading_refuses_what_is_missing(tmp_path, bundle):
    with pytest.raises(InputError, match="no such bundle"):
        tledge.load(tmp_path / "gone.tledge")
    with pytest.raises(UsageError, match="no backend 'opnvino'"):
        tledge.load(bundle.path, backend="opnvino")
    with pytest.raises(UsageError, match="no variant 'int9'"):
        tledge.load(bundle.path, variant="int9")
    with pytest.raises(BundleError, match=r"has no variant int8-cpu; it has fp32"):
        tledge.load(bundle.path, variant="int8-cpu")


def test_reading_a_file_explains_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        read_file(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        read_file(tmp_path / "gone.jpg")


def test_loading_imports_no_torch(bundle):
    code = (
        "import sys, tledge\n"
        f"model = tledge.load({str(bundle.path)!r}, backend='onnxruntime')\n"
        "heavy = {'torch', 'onnx', 'timm', 'torchvision', 'openvino', 'rich', 'click'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- what auto takes ---


def everything(tmp_path, stages):
    return bundles.make(tmp_path / "b.tledge", ("fp32", "int8", "int8-cpu", "fp16"), stages)


@pytest.fixture
def x86(monkeypatch):
    monkeypatch.setattr(machine, "is_x86", lambda: True)
    monkeypatch.setattr(machine, "has_int8_dot_product", lambda: True)
    monkeypatch.setattr(backends, "missing", lambda name: None)
    return monkeypatch


SCORED = (
    "fp32@onnxruntime",
    "fp32@openvino",
    "int8-cpu@onnxruntime",
    "int8-cpu@openvino",
    "int8@onnxruntime",
)


def test_auto_takes_the_first_of_the_order_that_was_scored(tmp_path, x86):
    everything_scored = everything(tmp_path / "1", SCORED)
    assert choose.choose(everything_scored) == ("openvino", "int8-cpu")
    assert choose.choose(everything_scored, backend="onnxruntime") == ("onnxruntime", "int8-cpu")
    assert choose.choose(everything_scored, variant="fp32") == ("openvino", "fp32")
    only_reference = everything(tmp_path / "2", ("fp32@onnxruntime", "int8-cpu@onnxruntime"))
    assert choose.choose(only_reference) == ("onnxruntime", "int8-cpu")
    assert choose.choose(only_reference, backend="openvino") == ("openvino", "fp32")
    nothing_scored = everything(tmp_path / "3", ())
    assert choose.choose(nothing_scored) == ("onnxruntime", "fp32")


def test_auto_takes_nothing_that_lost_too_much_or_was_scored_before_it_changed(tmp_path, x86):
    variants = ("fp32", "int8-cpu")

    def chosen(name: str, **changes: Any) -> tuple[str, str]:
        bundle = bundles.make(tmp_path / name, variants, SCORED[:4], changes={"int8-cpu@openvino": changes})
        return choose.choose(bundle)

    assert chosen("1") == ("openvino", "int8-cpu")
    assert chosen("2", top1=89.6) == ("openvino", "int8-cpu")
    assert chosen("3", top1=89.4) == ("onnxruntime", "int8-cpu")
    assert chosen("4", file_sha256="0" * 64) == ("onnxruntime", "int8-cpu")


def test_auto_needs_what_the_machine_has(tmp_path, x86):
    bundle = everything(tmp_path, SCORED)
    x86.setattr(backends, "missing", lambda name: None if name == "onnxruntime" else "not installed")
    assert choose.choose(bundle) == ("onnxruntime", "int8-cpu")
    x86.setattr(machine, "has_int8_dot_product", lambda: False)
    assert choose.choose(bundle) == ("onnxruntime", "fp32")
    x86.setattr(backends, "missing", lambda name: None)
    assert choose.choose(bundle) == ("openvino", "fp32")
    x86.setattr(machine, "is_x86", lambda: False)
    assert choose.choose(bundle) == ("onnxruntime", "fp32")


@pytest.mark.parametrize(("bits", "taken"), [(8, "fp32"), (7, "int8-cpu")])
def test_weights_in_seven_bits_need_no_vnni(tmp_path, x86, bits, taken):
    made = everything(tmp_path, SCORED)
    with made.writing() as writer:
        writer.commit("calibrate", settings={"weight_bits": bits})
        bundle = writer.finish()
    assert choose.choose(bundle) == ("openvino", "int8-cpu")
    assert choose.passed_over(bundle) == ()
    x86.setattr(machine, "has_int8_dot_product", lambda: False)
    assert choose.choose(bundle) == ("openvino", taken)
    told = [reason for reason in choose.passed_over(bundle) if "no VNNI" in reason]
    assert len(told) == (bits == 8)
    named = tledge.load(bundle.path, "onnxruntime", "int8-cpu")
    assert [note for note in named.notes if "--cpu-weights 7" in note] == [
        f"int8-cpu saturates: {choose.saturating(bundle, 'int8-cpu')}"
    ] * (bits == 8)


def test_what_is_named_is_taken(tmp_path, x86):
    bundle = everything(tmp_path, ())
    assert choose.choose(bundle, "openvino", "int8") == ("openvino", "int8")
    assert choose.choose(bundle, variant="int8") == ("onnxruntime", "int8")
    assert choose.choose(bundle, backend="openvino-bf16") == ("openvino-bf16", "fp32")


def test_the_order_gives_its_reasons_and_is_the_one_written_down():
    page = (Path(__file__).parents[2] / "docs" / "runtime.md").read_text()
    for position, choice in enumerate(choose.ORDER, start=1):
        assert f"| {position} | `{choice.variant}` | `{choice.backend}` |" in page
    assert all(choice.because and choice.backend in backends.BACKENDS for choice in choose.ORDER)
    assert choose.ORDER[-1] == choose.REFERENCE
