from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.commands import SERVER
from tests.training.conftest import QUICK
from tledge.bundle import Bundle
from tledge.data import find
from tledge.errors import BundleError, InputError, TledgeError, UsageError
from tledge.progress import Progress
from tledge.training import FinetuneSettings, checkpoint, finetune, loop
from tledge.training.state import Recipe, State, begin, pack, restore

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def finished(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return finetune(find(digits), tmp_path_factory.mktemp("finished") / "a.tledge", QUICK)


class Stopped(Exception):
    """Stands for whatever ends a run."""


class StopAt(Progress):
    """Ends the run when a task whose title begins with `title` has done `count` units."""

    def __init__(self, title: str, count: int = 1) -> None:
        super().__init__(quiet=True, terminal=False)
        self.title, self.count = title, count

    def task(self, title: str, total: int | None = None, unit: str = "images"):  # type: ignore[no-untyped-def]
        manager = super().task(title, total, unit)
        if not title.startswith(self.title):
            return manager
        count = self.count

        class Counting:
            def __enter__(self):  # type: ignore[no-untyped-def]
                task = manager.__enter__()
                original = task.advance

                def advance(n: int = 1, **kw: str) -> None:
                    original(n, **kw)
                    if task.done >= count:
                        raise Stopped(title)

                task.advance = advance
                return task

            def __exit__(self, *error):  # type: ignore[no-untyped-def]
                return manager.__exit__(*error)

        return Counting()


def test_everything_is_in_the_bundle(finished: Bundle, digits: Path) -> None:
    assert finished.state == "finished"
    assert finished.labels == ("0", "1", "2", "3")
    assert [row.stage for row in finished.ledger][:2] == ["torch", "fp32@onnxruntime"]
    torch_row, onnx_row = finished.ledger[:2]
    assert (torch_row.n, torch_row.parent, onnx_row.parent) == (40, None, "torch")
    assert torch_row.data_sha256 == onnx_row.data_sha256
    assert onnx_row.flips == 0
    assert torch_row.file_sha256 == finished.sha256(WEIGHTS)
    assert onnx_row.file_sha256 == finished.sha256("fp32.onnx")
    assert len(finished.eval_images()) == 40
    parts = [file.part for file in finished.train_files()]
    assert (parts.count("train"), parts.count("tune")) == (108, 12)
    assert all((Path(finished.train_root) / file.path).is_file() for file in finished.train_files())
    assert finished.problems() == ()
    assert not (finished.path / "checkpoints").exists()
    chosen = finished.settings["finetune"]["chosen"]
    assert len(chosen["history"]) == 3
    assert chosen["recipe"]["batch_norm"] == "batch"
    assert json.loads((finished.path / "manifest.json").read_text())["settings"]["finetune"]["seed"] == 0


def test_digits_are_not_mirrored(finished: Bundle) -> None:
    assert finished.settings["finetune"]["chosen"]["flip"] is False


def test_the_same_seed_gives_the_same_bits_whatever_the_workers(
    finished: Bundle, digits: Path, tmp_path: Path
) -> None:
    again = finetune(find(digits), tmp_path / "b.tledge", dataclasses.replace(QUICK, workers=1))
    for name in (WEIGHTS, "fp32.onnx", "ledger.json", "train.json"):
        assert again.sha256(name) == finished.sha256(name), name
    other = finetune(find(digits), tmp_path / "c.tledge", dataclasses.replace(QUICK, seed=1, epochs=1))
    assert other.sha256(WEIGHTS) != finished.sha256(WEIGHTS)


@pytest.mark.parametrize(
    ("title", "count"),
    [("features", 64), ("epoch 1", 32), ("epoch 2", 1), ("epoch 3", 108), ("scoring torch", 1)],
)
def test_a_resumed_run_ends_as_an_unbroken_one(
    finished: Bundle, digits: Path, tmp_path: Path, title: str, count: int
) -> None:
    out = tmp_path / "r.tledge"
    with pytest.raises(Stopped):
        finetune(find(digits), out, QUICK, StopAt(title, count))
    assert Bundle.open(out).state == "unfinished"
    assert Bundle.open(out).problems() == ()
    with pytest.raises(UsageError, match="unfinished"):
        finetune(find(digits), out, QUICK)
    resumed = finetune(find(digits), out, resume=True)
    for name in (WEIGHTS, "fp32.onnx", "ledger.json", "train.json", "eval/index.json"):
        assert resumed.sha256(name) == finished.sha256(name), name
    assert not (out / "checkpoints").exists()


def begun_or_gone_on_with(data: Path, out: Path) -> None:
    finetune(find(data), out, QUICK, resume=out.exists())


def test_a_run_killed_at_any_moment_goes_on(finished: Bundle, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "k.tledge"

    def run() -> BaseProcess:
        process = SERVER.Process(target=begun_or_gone_on_with, args=(digits, out))
        process.start()
        return process

    def until(reached: Callable[[], bool]) -> None:
        process = run()
        while not reached() and process.is_alive():
            time.sleep(0.002)
        process.kill()
        process.join()
        Bundle.open(out)
        assert Bundle.open(out).problems() == ()

    until(out.exists)
    until((out / "checkpoints" / "start-0000.safetensors").exists)
    until((out / "checkpoints" / "epoch-0002.safetensors").exists)
    last = run()
    last.join()
    assert last.exitcode == 0
    assert Bundle.open(out).sha256(WEIGHTS) == finished.sha256(WEIGHTS)
    assert Bundle.open(out).ledger == finished.ledger


def test_what_goes_on_must_be_the_same_run(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.tledge"
    with pytest.raises(Stopped):
        finetune(find(digits), out, QUICK, StopAt("epoch 2"))
    with pytest.raises(UsageError, match="epochs 3"):
        finetune(find(digits), out, dataclasses.replace(QUICK, epochs=9), resume=True)
    fewer = tmp_path / "fewer"
    shutil.copytree(digits, fewer)
    for split in ("train", "val"):
        shutil.rmtree(fewer / split / "3")
    with pytest.raises(UsageError, match="'3'"):
        finetune(find(fewer), out, resume=True)
    changed = tmp_path / "changed"
    shutil.copytree(digits, changed)
    first, second, *_ = sorted((changed / "train" / "0").iterdir())
    shutil.copy(first, second)
    with pytest.raises(InputError, match=r"changed since this run began"):
        finetune(find(changed), out, resume=True)


def test_a_damaged_checkpoint_is_refused(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.tledge"
    with pytest.raises(Stopped):
        finetune(find(digits), out, QUICK, StopAt("epoch 2"))
    file = out / "checkpoints" / "epoch-0001.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(TledgeError, match="damaged"):
        finetune(find(digits), out, resume=True)


def test_a_probe_is_a_head_alone(digits: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, method="probe")
    bundle = finetune(find(digits), tmp_path / "p.tledge", settings)
    assert bundle.ledger[0].top1 > 60  # random features, four classes
    assert "history" not in bundle.settings["finetune"]["chosen"]
    with pytest.raises(UsageError, match="linear"):
        finetune(find(digits), tmp_path / "q.tledge", dataclasses.replace(settings, head="mlp:4"))


def test_a_bundle_is_a_starting_point(finished: Bundle, digits: Path, tmp_path: Path) -> None:
    from tledge.models import load

    settings = FinetuneSettings(
        from_bundle=str(finished.path), epochs=1, batch_size=16, freeze="backbone", device="cpu"
    )
    flat = tmp_path / "flat"
    for label in ("1", "2", "3"):
        shutil.copytree(digits / "train" / label, flat / f"digit {label}")
    bundle = finetune(find(flat), tmp_path / "t.tledge", settings)
    before, after = load(finished.read(WEIGHTS)), load(bundle.read(WEIGHTS))
    assert bundle.labels == ("digit 1", "digit 2", "digit 3")
    assert bundle.spec == finished.spec
    assert all(
        np.array_equal(a.numpy(), b.numpy())
        for a, b in zip(before.body.state_dict().values(), after.body.state_dict().values(), strict=True)
    )
    with pytest.raises(UsageError, match="tledge:cnn"):
        finetune(
            find(flat), tmp_path / "u.tledge", dataclasses.replace(settings, backbone="efficientnet-lite1")
        )
    assert not (tmp_path / "u.tledge").exists()


@pytest.mark.parametrize("batch_size", [1, 107])  # 108 images: a last batch of one
def test_batch_norm_never_sees_one_image(digits: Path, tmp_path: Path, batch_size: int) -> None:
    settings = dataclasses.replace(QUICK, epochs=1, batch_size=batch_size)
    assert finetune(find(digits), tmp_path / "n.tledge", settings).state == "finished"


def test_a_loss_that_is_no_number_stops_the_run(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "nan.tledge"
    settings = dataclasses.replace(QUICK, lr=1e38)
    with pytest.raises(UsageError, match=r"step \d+ of 7 in epoch 1") as caught:
        finetune(find(digits), out, settings)
    assert "--lr" in caught.value.hint
    assert Bundle.open(out).problems() == ()


def test_a_last_step_that_breaks_the_network_is_said(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(state: State, *given: object, **named: object) -> float:
        with torch.no_grad():
            next(state.averaged.head.parameters()).fill_(float("nan"))
        return 0.5

    monkeypatch.setattr(loop, "run_epoch", broken)
    with pytest.raises(UsageError, match="after the last step in epoch 1; no epoch was finished"):
        finetune(find(digits), tmp_path / "last.tledge", QUICK)


def test_no_eval_images_are_kept_unless_wanted(digits: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, epochs=1, eval_images=0)
    bundle = finetune(find(digits), tmp_path / "e.tledge", settings)
    assert bundle.eval_images() == ()
    assert {row.n for row in bundle.ledger} == {40}


def test_fewer_train_images_are_some_of_all_in_proportion(
    finished: Bundle, digits: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(QUICK, epochs=1, train_images=40)
    bundle = finetune(find(digits), tmp_path / "s.tledge", settings)
    files = bundle.train_files()
    assert [sum(file.label == label for file in files) for label in range(4)] == [10] * 4
    assert {file.sha256 for file in files} < {file.sha256 for file in finished.train_files()}
    assert bundle.ledger[0].data_sha256 == finished.ledger[0].data_sha256
    with pytest.raises(UsageError, match="4 classes"):
        finetune(find(digits), tmp_path / "n.tledge", dataclasses.replace(settings, train_images=3))
    assert not (tmp_path / "n.tledge").exists()


def test_sgd_learns_and_goes_on_as_if_unbroken(digits: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, optimizer="sgd")
    whole = finetune(find(digits), tmp_path / "w.tledge", settings)
    history = whole.settings["finetune"]["chosen"]["history"]
    assert history[-1]["loss"] < history[0]["loss"]
    with pytest.raises(Stopped):
        finetune(find(digits), tmp_path / "b.tledge", settings, StopAt("epoch 3"))
    again = finetune(find(digits), tmp_path / "b.tledge", resume=True)
    assert again.sha256(WEIGHTS) == whole.sha256(WEIGHTS)


def test_classes_too_small_to_choose_on(digits: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    for split in ("train", "val"):
        for label in ("0", "1"):
            files = sorted((digits / split / label).iterdir())[:2]
            (few / split / label).mkdir(parents=True)
            for file in files:
                shutil.copy(file, few / split / label)
    bundle = finetune(find(few), tmp_path / "few.tledge", dataclasses.replace(QUICK, epochs=2))
    assert {file.part for file in bundle.train_files()} == {"train"}
    assert bundle.settings["finetune"]["chosen"]["flip"] is False


def test_bad_images_stop_a_run_before_anything_is_written(digits: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(digits, bad)
    for file in sorted((bad / "train" / "0").iterdir())[:4]:
        file.write_bytes(b"not an image")
    with pytest.raises(InputError, match="cannot be used"):
        finetune(find(bad), tmp_path / "x.tledge", QUICK)
    assert not (tmp_path / "x.tledge").exists()
    settings = dataclasses.replace(QUICK, epochs=1, skip_bad=True)
    bundle = finetune(find(bad), tmp_path / "y.tledge", settings)
    assert len(bundle.train_files()) == 116


def test_a_finished_bundle_is_replaced_only_when_asked(
    finished: Bundle, digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "f.tledge"
    shutil.copytree(finished.path, out)
    with pytest.raises(UsageError, match="in the way"):
        finetune(find(digits), out, QUICK)
    with pytest.raises(Stopped):
        finetune(find(digits), out, QUICK, StopAt("epoch 2"), force=True)
    assert Bundle.open(out).ledger == finished.ledger
    replaced = finetune(find(digits), out, dataclasses.replace(QUICK, epochs=1, seed=3), force=True)
    assert replaced.path == out
    assert Bundle.open(out).settings["finetune"]["seed"] == 3


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_checkpoints_give_back_the_whole_state(tmp_path: Path, optimizer: str) -> None:
    import torch

    from tledge.models import create
    from tledge.training.augment import Augmentation

    how = Augmentation(0.5, False, 0, 0.0)
    recipe = Recipe(2, 4, 1e-3, 0.1, 0.1, 0.01, 0.1, (16, 16), how, "batch", 4, 0, optimizer)
    network, _ = create("tledge:cnn", 3, image_size=16)
    state = begin(network, recipe)
    network(torch.randn(4, 3, 16, 16)).sum().backward()
    state.optimizer.step()
    state.history, state.tune_losses = [{"epoch": 1, "loss": 2.5}], [[0.1, 0.2]]
    checkpoint.write(tmp_path / "epoch-0001.safetensors", pack(state))
    fresh = begin(create("tledge:cnn", 3, image_size=16)[0], recipe)
    stored = checkpoint.latest(tmp_path, "epoch")
    assert stored is not None
    restore(fresh, stored)
    moment = {"adamw": "exp_avg", "sgd": "momentum_buffer"}[optimizer]
    assert any(name.startswith(f"optimizer.{moment}.") for name in stored.tensors)
    before, after = pack(state).tensors, pack(fresh).tensors
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert fresh.tune_losses == [[0.1, 0.2]]
    older = dataclasses.replace(stored, data={"history": [], "tune_losses": []})
    with pytest.raises(BundleError, match="older tledge"):
        restore(fresh, older)


def test_a_perceptron_from_scratch_has_rules_of_its_own(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tledge.training.probe.SEARCH_ON", 50)  # of 108 images: the probe sees every third
    settings = dataclasses.replace(QUICK, backbone="tledge:mlp", epochs=1, batch_size=None)
    bundle = finetune(find(digits), tmp_path / "mlp.tledge", settings, Progress(terminal=False))
    recipe = bundle.settings["finetune"]["chosen"]["recipe"]
    assert (recipe["batch_size"], recipe["lr"]) == (128, 1e-3)
    assert (recipe["augmentation"]["operations"], recipe["augmentation"]["min_area"]) == (0, 0.9)
    said = capsys.readouterr().err
    assert "features: 48 images" in said  # 36 of train, 12 of tune
    assert "epoch 1 of 1: 108 images" in said
    asked = dataclasses.replace(settings, batch_size=16, lr=0.01)
    other = finetune(find(digits), tmp_path / "other.tledge", asked).settings["finetune"]["chosen"]["recipe"]
    assert (other["batch_size"], other["lr"]) == (16, 0.01)
