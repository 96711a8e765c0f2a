"""`tledge bench`: what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import quick
from tests.runtime import bundles
from tledge.bench import load
from tledge.cli import cli
from tledge.cli.failure import guarded

pytest.importorskip("onnxruntime")

QUICK = ("--duration", "0.1", "--threads", "1", "--backend", "onnxruntime", "--json")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.make(tmp_path_factory.mktemp("bundles") / "tiny.tledge", eval_images=6).path


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    quick.make(monkeypatch)


def run(*words: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict]:
    code = guarded(cli, ["bench", *(str(word) for word in words)])
    return code, json.loads(capsys.readouterr().out)


def test_a_budget_is_a_gate(bundle, capsys):
    code, found = run(bundle, *QUICK, "--budget-ms", "1000", "--percentile", "99", "--force", capsys=capsys)
    assert code == 0
    assert found["budget"] | {"measured_ms": 0} == {
        "ms": 1000,
        "percentile": 99,
        "measured_ms": 0,
        "over": 0,
        "allowed_over": found["budget"]["allowed_over"],
        "queries_needed": 459,
        "held": True,
    }
    code, found = run(bundle, *QUICK, "--budget-ms", "0.001", "--force", capsys=capsys)
    assert (code, found["budget"]["held"], found["budget"]["percentile"]) == (7, False, 90)


def test_a_run_that_is_not_valid_is_exit_7_unless_forced(bundle, capsys, monkeypatch):
    monkeypatch.setattr(load, "LONGEST", 1)
    words = (bundle, *QUICK, "--batch", "64", "--duration", "0.001")
    code, found = run(*words, capsys=capsys)
    assert (code, found["valid"]) == (7, False)
    assert found["reasons"][0].startswith("too few queries")
    assert run(*words, "--force", capsys=capsys)[0] == 0


def test_an_earlier_result(bundle, capsys, tmp_path):
    _, first = run(bundle, *QUICK, "--force", capsys=capsys)
    (tmp_path / "first.json").write_text(json.dumps(first))
    code, found = run(bundle, *QUICK, "--force", "--compare", tmp_path / "first.json", capsys=capsys)
    assert code == 0
    assert len(found["ratios"]) == 1
    (tmp_path / "first.json").write_text(json.dumps({**first, "data_sha256": "0" * 64}))
    code, found = run(bundle, *QUICK, "--force", "--compare", tmp_path / "first.json", capsys=capsys)
    assert (code, found["error"]["kind"]) == (4, "input")
    assert "other eval images" in found["error"]["message"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--duration", "0"), 2),
        (("--scenario", "server"), 2),
        (("--threads", "1,x"), 2),
        (("--batch", "0"), 2),
        (("--percentile", "99"), 2),
        (("--backend", "onnxruntime,none"), 2),
        (("--compare", "none.json"), 4),
        (("--data", "none"), 4),
    ],
)
def test_bad_words(bundle, words, code, capsys):
    found, answer = run(bundle, "--json", *words, capsys=capsys)
    assert (found, list(answer)) == (code, ["error"])
