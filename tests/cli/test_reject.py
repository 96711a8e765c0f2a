"""Answers that are not sure enough count as none, from evaluate to predict, where that was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.runtime import bundles
from tledge.bundle import Bundle, probabilities
from tledge.bundle.probabilities import Probabilities
from tledge.cli import cli
from tledge.cli.failure import guarded
from tledge.errors import BundleError


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return bundles.make(tmp_path / "b.tledge", eval_images=40).path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "x.png").write_bytes(bundles.png(3))
    return tmp_path / "x.png"


def tledge(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict]:
    code = guarded(cli, [*map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    code, document = tledge(capsys, "predict", *words, "--backend", "onnxruntime")
    assert code == 0
    return document["predictions"][0]


def test_a_threshold_is_kept_and_says_what_it_costs(capsys, bundle, image):
    sure = answer(capsys, bundle, image)["probability"]
    words = ("evaluate", bundle, "--backend", "onnxruntime", "--reject-below")
    code, document = tledge(capsys, *words, 0.3)
    assert code == 0
    found = document["rejection"]
    assert (found["below"], 0 < found["coverage"] < 100) == (0.3, True)
    by_class = document["classes"]
    recalls = [recall for recall in by_class["recall"].values() if recall is not None]
    assert by_class["balanced_accuracy"] == pytest.approx(sum(recalls) / len(recalls))
    assert tledge(capsys, *words, sure + 0.001)[0] == 0
    rejected = answer(capsys, bundle, image)
    assert (rejected["label"], rejected["index"], rejected["rejected"]) == (None, None, True)
    assert (rejected["probability"], rejected["error"]) == (sure, None)
    assert rejected["top"][0]["probability"] == sure
    assert answer(capsys, bundle, image, "--reject-below", 0)["label"] is not None
    assert tledge(capsys, *words, 0)[0] == 0
    assert answer(capsys, bundle, image)["rejected"] is False


def test_the_text_says_none_and_what_it_might_have_been(capsys, bundle, image):
    guarded(cli, ["predict", str(bundle), str(image), "--reject-below", "0.99"])
    said = capsys.readouterr().out
    assert "x.png: none " in said
    assert any(label in said for label in bundles.LABELS)


def test_a_temperature_changes_how_sure_an_answer_is_and_not_which(capsys, bundle, image):
    before = answer(capsys, bundle, image)
    with Bundle.open(bundle).writing() as writer:
        writer.put(probabilities.NAME, Probabilities({"fp32": 4.0}).encode())
        writer.commit("calibrate")
    after = answer(capsys, bundle, image)
    assert after["label"] == before["label"]
    assert 0.2 < after["probability"] < before["probability"]
    assert [guess["label"] for guess in after["top"]] == [guess["label"] for guess in before["top"]]


@pytest.mark.parametrize("value", ["-0.1", "1", "nan"])
def test_what_is_no_probability_is_refused_and_changes_nothing(capsys, bundle, image, value):
    before = Bundle.open(bundle).manifest
    for words in (("evaluate", bundle), ("predict", bundle, image)):
        code, document = tledge(capsys, *words, "--reject-below", value)
        assert (code, document["error"]["kind"]) == (2, "usage")
    assert Bundle.open(bundle).manifest == before


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"nothing",
        b'{"schema": 2, "temperatures": {}, "reject_below": 0}',
        b'{"schema": 1, "temperatures": {"fp32": 0}, "reject_below": 0}',
    ],
)
def test_a_damaged_file_is_told_of(bundle, text):
    with Bundle.open(bundle).writing() as writer:
        writer.put(probabilities.NAME, text)
        writer.commit("calibrate")
    with pytest.raises(BundleError, match=r"probabilities\.json"):
        probabilities.read(Bundle.open(bundle))
