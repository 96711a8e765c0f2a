"""Backbones are ranked by what they are worth on these images, and the budget is kept."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.training.conftest import QUICK
from tledge.cli import cli
from tledge.cli.failure import guarded
from tledge.data import find
from tledge.errors import UsageError
from tledge.training.advise import Advised, advise

SETTINGS = dataclasses.replace(QUICK, backbone="efficientnet-lite0")


@pytest.fixture(scope="module")
def advised(digits: Path) -> Advised:
    return advise(find(digits), ("tledge:mlp", "tledge:cnn", "timm:nothing"), settings=SETTINGS)


def test_every_candidate_is_measured_and_what_cannot_be_is_named(advised: Advised):
    assert {one.backbone for one in advised.advice} == {"tledge:mlp", "tledge:cnn"}
    assert [name for name, _ in advised.skipped] == ["timm:nothing"]
    assert (advised.train, advised.tune) == (108, 12)
    for one in advised.advice:
        assert 0 <= one.probe_low <= one.probe_top1 <= one.probe_high <= 100
        # Even random features tell four digits apart better than chance.
        assert min(one.probe_top1, one.knn_top1) > 40
        assert one.infer_ms > 0
        assert one.image_size == 16
    assert any(one.pareto for one in advised.advice)
    assert advised.chosen in {"tledge:mlp", "tledge:cnn"}
    assert [one.probe_top1 for one in advised.advice] == sorted(
        (one.probe_top1 for one in advised.advice), reverse=True
    )


def test_a_budget_that_nothing_keeps_chooses_nothing(digits: Path):
    found = advise(find(digits), ("tledge:mlp",), budget_ms=1e-6, settings=SETTINGS)
    assert found.chosen is None
    assert not found.advice[0].fits
    for budget in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="the budget is"):
            advise(find(digits), ("tledge:mlp",), budget_ms=budget, settings=SETTINGS)
    with pytest.raises(UsageError, match="none of the backbones"):
        advise(find(digits), ("timm:nothing",), settings=SETTINGS)


def test_the_command_draws_and_says_what_to_do_next(digits: Path, tmp_path: Path, capsys):
    pytest.importorskip("matplotlib")
    plot = tmp_path / "front.svg"
    words = ["advise", str(digits), "--backbone", "tledge:cnn,tledge:mlp", "--image-size", "16"]
    assert guarded(cli, [*words, "--plot", str(plot)]) == 0
    said = capsys.readouterr().out
    assert "tledge finetune" in said
    assert "tledge:mlp" in said
    assert ET.parse(plot).getroot().tag.endswith("svg")
