"""`--time`: epochs that fit, an end with what is best, and the same bits when a run goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.training.conftest import QUICK
from tests.training.test_finetune import StopAt, Stopped
from tledge.bundle import Bundle
from tledge.cli import cli
from tledge.cli.failure import guarded
from tledge.data import find
from tledge.errors import UsageError
from tledge.training import FinetuneSettings, budget, clock, finetune, loop
from tledge.training.clock import Clock, OutOfTime

TIMED = dataclasses.replace(QUICK, epochs=None, time=3600.0)


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every machine as fast: 0.01 s an image in training, 0.001 s when it is looked at."""
    monkeypatch.setattr(budget, "_speed", lambda *args, **named: (0.01, 0.001))
    monkeypatch.setattr(budget, "EXPORT", 0.0)


def chosen(bundle: Bundle) -> dict:
    return bundle.settings["finetune"]["chosen"]


@pytest.mark.parametrize(("spare", "epochs"), [(2.6, 2), (0.5, 1), (1000.0, budget.MOST_EPOCHS)])
def test_as_many_epochs_as_fit_are_planned(
    steady: None, digits: Path, tmp_path: Path, spare: float, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 108 images to train on take 1.09 s an epoch; a network from scratch has one epoch at least.
    monkeypatch.setattr(clock.time, "monotonic", lambda: 0.0)
    monkeypatch.setattr(loop, "stalled", lambda *args: False)
    settings = dataclasses.replace(TIMED, time=0.204 + spare)  # seven looks at tune, three at val
    bundle = finetune(find(digits), tmp_path / "t.tledge", settings)
    assert len(chosen(bundle)["history"]) == epochs == chosen(bundle)["recipe"]["epochs"]
    assert chosen(bundle)["time"]["cut"] is False
    assert bundle.state == "finished"


def test_what_was_planned_is_what_goes_on(steady: None, digits: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(TIMED, epochs=2)
    whole = finetune(find(digits), tmp_path / "a.tledge", settings)
    plain = finetune(find(digits), tmp_path / "b.tledge", dataclasses.replace(settings, time=None))
    assert whole.sha256("model.safetensors") == plain.sha256("model.safetensors")
    out = tmp_path / "c.tledge"
    with pytest.raises(Stopped):
        finetune(find(digits), out, settings, StopAt("epoch 2"))
    resumed = finetune(find(digits), out, resume=True)
    assert resumed.sha256("model.safetensors") == whole.sha256("model.safetensors")
    assert chosen(resumed)["time"].keys() == chosen(whole)["time"].keys()


def test_a_measured_speed_does_not_change_the_run(digits: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(TIMED, epochs=1)
    timed = finetune(find(digits), tmp_path / "a.tledge", settings)
    plain = finetune(find(digits), tmp_path / "b.tledge", dataclasses.replace(settings, time=None))
    assert timed.sha256("model.safetensors") == plain.sha256("model.safetensors")


def test_a_run_that_is_too_slow_ends_with_the_best_so_far(
    steady: None, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[Clock] = []

    def check(self: Clock) -> None:
        checks.append(self)
        if len(checks) == 3:  # in the second epoch: without a probe the first is not cut
            raise OutOfTime

    monkeypatch.setattr(Clock, "check", check)
    one = finetune(find(digits), tmp_path / "one.tledge", dataclasses.replace(TIMED, epochs=3))
    assert one.state == "finished"
    assert chosen(one)["time"]["cut"] is True
    assert [entry["epoch"] for entry in chosen(one)["history"]] == [1]


def test_time_is_counted_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])
    ours = Clock(limit=60.0)
    now[0] += 5
    ours.recall({"used": 30.0, "reserve": 10.0, "probe": False})
    assert (ours.used, ours.left, ours.probe) == (30.0, 20.0, False)
    now[0] += 19
    ours.check()
    now[0] += 1
    with pytest.raises(OutOfTime):
        ours.check()
    Clock().check()


def test_times_are_read_as_people_write_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert [clock.seconds(text) for text in ("90", "90s", "10m", "1.5h")] == [90, 90, 600, 5400]
    for wrong in ("", "m", "-1", "0", "nan", "inf", "10 minutes"):
        with pytest.raises(UsageError, match="no time"):
            clock.seconds(wrong)
    with pytest.raises(UsageError, match="probe"):
        FinetuneSettings(method="probe", time=10.0)
    assert guarded(cli, ["finetune", str(tmp_path), "-o", str(tmp_path / "x.tledge"), "--time", "soon"]) == 2
    assert "10m" in capsys.readouterr().err
