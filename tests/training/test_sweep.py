"""Settings are tried on tune alone, and the command line that comes out trains as the best trial did."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tledge.data import find
from tledge.errors import MachineError, UsageError
from tledge.training import FinetuneSettings, sweep

QUICK = ["--epochs", "2", "--image-size", "16", "--device", "cpu"]


def tledge(*words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tledge", *words], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_the_best_of_two_trials_can_be_trained_again(digits: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.tune")
    words = ["sweep", str(digits), "--backbone", "tledge:cnn,tledge:mlp", "--trials", "2", *QUICK, "--json"]
    code, said, noise = tledge(*words)
    assert code == 0, noise
    document = json.loads(said)
    trials = document["trials"]
    assert {one["backbone"] for one in trials} == {"tledge:cnn", "tledge:mlp"}
    assert trials[0]["tune_loss"] <= trials[1]["tune_loss"]
    assert all(one["error"] is None and one["epochs"] == 2 for one in trials)
    command = document["command"].split()
    assert command[:2] == ["tledge", "finetune"]
    out = tmp_path / "best.tledge"
    command[command.index("NAME.tledge")] = str(out)
    code, _, noise = tledge(*command[1:])
    assert code == 0, noise
    manifest = json.loads((out / "manifest.json").read_text())
    history = manifest["settings"]["finetune"]["chosen"]["history"]
    kept = [one["tune_loss"] for one in history]
    assert min(abs(loss - trials[0]["tune_loss"]) for loss in kept) < 1e-3


def test_trials_come_from_the_seed_and_begin_with_the_defaults() -> None:
    names = ("tledge:cnn", "efficientnet-lite0")
    first, second, *others = sweep.draw(names, 12, FinetuneSettings())
    assert (first.backbone, first.lr, first.magnitude) == ("tledge:cnn", 2e-3, 0.5)
    assert (second.backbone, second.lr, second.magnitude) == ("efficientnet-lite0", 3e-4, 0.5)
    assert all(2e-3 / 5.1 < one.lr < 2e-3 * 5.1 for one in others if one.backbone == "tledge:cnn")
    assert {one.magnitude for one in others} <= set(sweep.MAGNITUDES)
    assert len({one.lr for one in others}) > 6
    assert sweep.draw(names, 12, FinetuneSettings())[2:] == others
    assert sweep.draw(names, 12, FinetuneSettings(seed=1))[2:] != others


def test_a_trial_is_settings_of_finetune() -> None:
    trial = sweep.Trial(3, "tledge:cnn", 4.1e-3, 0.25)
    words = sweep.options(trial, FinetuneSettings(seed=7, epochs=2))
    assert " ".join(words) == "--backbone tledge:cnn --lr 0.0041 --magnitude 0.25 --epochs 2 --seed 7"


@pytest.mark.parametrize(
    ("names", "more", "said"),
    [
        (["tledge:cmn"], {}, "tledge:cmn"),
        (["tledge:cnn", "tledge:mlp"], {"trials": 1}, "too few for 2"),
        (["tledge:cnn"], {"at_once": 0}, "at once"),
    ],
)
def test_what_cannot_be_tried_is_refused(
    digits: Path, names: list[str], more: dict[str, int], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        sweep.sweep(find(digits), names, **more)


def test_an_address_where_nothing_answers_is_named(digits: Path) -> None:
    pytest.importorskip("ray.tune")
    with pytest.raises(MachineError, match=r"127\.0\.0\.1:9"):
        sweep.sweep(find(digits), ["tledge:cnn"], address="127.0.0.1:9")


def test_without_ray_it_says_what_to_install(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.tune", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MachineError, match="Ray Tune") as caught:
        sweep.sweep(find(digits), ["tledge:cnn"])
    assert "tledge[sweep]" in caught.value.hint
    assert caught.value.exit_code == 3
