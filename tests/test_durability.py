"""Killed at any moment, a bundle is absent or whole, and running the command again ends with the same ledger.

TLEDGE_KILLS (default 3) is how many random moments of each command are tried; docs/benchmarks.md has a run
with 20.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest

from tests.commands import tledge
from tledge.bundle import Bundle
from tledge.bundle.records import Row

KILLS = int(os.environ.get("TLEDGE_KILLS", "3"))
FINETUNE = (
    "finetune photos -o b.tledge --backbone tledge:cnn --weights none --image-size 32 --epochs 3".split()
)
CALIBRATE = "calibrate b.tledge --images 32 --max-drop 100".split()
EXPORT = "export b.tledge --for device -o d.tledge".split()

pytestmark = pytest.mark.slow


def run(folder: Path, words: list[str], kill_after: float | None = None) -> bool:
    """Run `tledge WORDS` in `folder`; kill it with SIGKILL after that many seconds. Tell whether it ended."""
    said = tledge(folder, *words, kill_after=kill_after)
    assert said.code in (0, None), said.stderr
    return said.code == 0


def whole(path: Path) -> bool:
    """Tell whether the bundle is there; where it is, it must open, and every hash must hold."""
    if not path.exists():
        return False
    assert Bundle.open(path).problems() == ()
    return True


def scores(path: Path) -> tuple[Row, ...]:
    return Bundle.open(path).ledger


@pytest.fixture(scope="module")
def folder(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the data and a bundle that nobody interrupted."""
    place = tmp_path_factory.mktemp("durability")
    shutil.copytree(photos, place / "photos")
    run(place, FINETUNE)
    run(place, CALIBRATE)
    return place


def moments(seconds: float, seed: int) -> list[float]:
    source = random.Random(seed)
    return [source.uniform(0.05, 1.0) * seconds for _ in range(KILLS)]


def test_finetune_goes_on_as_if_never_stopped(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "photos", tmp_path / "photos")
    bundle = tmp_path / "b.tledge"
    started = time.monotonic()
    run(tmp_path, FINETUNE)
    seconds = time.monotonic() - started
    expected, weights = scores(bundle), Bundle.open(bundle).sha256("model.safetensors")
    assert expected == scores(folder / "b.tledge")[: len(expected)]
    for moment in moments(seconds, seed=1):
        shutil.rmtree(bundle)
        if not run(tmp_path, FINETUNE, kill_after=moment):
            there = whole(bundle)
            if not there or Bundle.open(bundle).state == "unfinished":
                run(tmp_path, [*FINETUNE, *(["--resume"] if there else [])])
        assert whole(bundle)
        assert scores(bundle) == expected
        assert Bundle.open(bundle).sha256("model.safetensors") == weights


def test_calibrate_changes_nothing_or_everything(folder: Path, tmp_path: Path) -> None:
    expected = scores(folder / "b.tledge")
    shutil.copytree(folder / "photos", tmp_path / "photos")
    shutil.copytree(folder / "b.tledge", tmp_path / "b.tledge")
    started = time.monotonic()
    run(tmp_path, CALIBRATE)
    for moment in moments(time.monotonic() - started, seed=2):
        run(tmp_path, CALIBRATE, kill_after=moment)
        assert whole(tmp_path / "b.tledge")
        assert scores(tmp_path / "b.tledge") == expected
        run(tmp_path, CALIBRATE)
        assert scores(tmp_path / "b.tledge") == expected


def test_export_is_absent_or_whole(folder: Path) -> None:
    out = folder / "d.tledge"
    started = time.monotonic()
    run(folder, EXPORT)
    seconds = time.monotonic() - started
    for moment in moments(seconds, seed=3):
        shutil.rmtree(out, ignore_errors=True)
        run(folder, EXPORT, kill_after=moment)
        finished = whole(out) and Bundle.open(out).state == "finished"
        run(folder, [*EXPORT, "--force"] if finished else EXPORT)
        assert whole(out)
        assert json.loads((out / "manifest.json").read_text())["state"] == "finished"
