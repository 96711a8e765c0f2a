"""Two processes under torchrun, with gloo: one course, one bundle; and what is left when one dies."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import QUICK
from tledge.bundle import Bundle
from tledge.data import find
from tledge.errors import UsageError
from tledge.training import finetune
from tledge.training.distributed import Team

# The order of sums differs, and training lets such differences grow: three epochs from scratch.
TOLERANCE = 1e-3
WORDS = "--backbone tledge:cnn --image-size 16 --epochs 3 --batch-size 16 --device cpu --workers 1".split()


def torchrun(data: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    words = ["-m", "tledge", "finetune", str(data), "-o", str(out), "--json", *WORDS, *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_two_processes_train_as_one_does(digits: Path, tmp_path: Path) -> None:
    run = torchrun(digits, tmp_path / "two.tledge")
    said, noise = run.communicate(timeout=300)
    assert run.returncode == 0, noise
    document = json.loads(said)  # one document: the first process alone answers
    assert noise.count("epoch 3  loss") == 1
    two = Bundle.open(tmp_path / "two.tledge")
    one = finetune(find(digits), tmp_path / "one.tledge", QUICK)
    assert two.state == "finished"
    assert two.problems() == ()
    assert [row["stage"] for row in document["ledger"]] == [row.stage for row in one.ledger]
    assert two.ledger[0].data_sha256 == one.ledger[0].data_sha256
    histories = [bundle.settings["finetune"]["chosen"]["history"] for bundle in (one, two)]
    for ours, theirs in zip(*histories, strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=TOLERANCE)
        assert theirs["tune_loss"] == pytest.approx(ours["tune_loss"], rel=10 * TOLERANCE)
    losses = [entry["loss"] for entry in histories[0]]
    assert losses[0] - losses[2] > 20 * TOLERANCE * losses[0]  # a curve that could differ


def test_a_run_whose_worker_dies_ends_and_goes_on(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.tledge"
    run = torchrun(digits, out, "--epochs", "30")
    deadline = time.monotonic() + 200
    while not list((out / "checkpoints").glob("epoch-*")):
        assert run.poll() is None, run.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    helper = next(
        int(child)
        for child in children
        if b"\0RANK=1\0" in b"\0" + Path(f"/proc/{child}/environ").read_bytes()
    )
    os.kill(helper, signal.SIGKILL)
    _, noise = run.communicate(timeout=100)
    assert run.returncode != 0, noise
    bundle = Bundle.open(out)
    assert (bundle.state, bundle.problems()) == ("unfinished", ())
    assert list((out / "checkpoints").glob("epoch-*"))
    assert finetune(find(digits), out, resume=True).state == "finished"


def test_each_process_takes_its_slice_of_every_batch() -> None:
    order = list(range(21))
    one, two = (Team(rank, 2).share(order, 8) for rank in range(2))
    assert one == ([0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18], 4)
    assert two == ([4, 5, 6, 7, 12, 13, 14, 15, 19, 20], 4)
    assert Team().share(order, 8) == (order, 8)


def test_what_cannot_be_shared_is_refused(digits: Path, tmp_path: Path) -> None:
    pair = Team(0, 2)
    for changes in ({"method": "probe"}, {"batch_size": 1}, {"qat": True, "from_bundle": "x.tledge"}):
        settings = dataclasses.replace(QUICK, **({"image_size": None} | changes))
        with pytest.raises(UsageError, match=r"one process|2 processes"):
            finetune(find(digits), tmp_path / "n.tledge", settings, team=pair)
    assert not (tmp_path / "n.tledge").exists()


def test_batch_norm_that_spans_processes_is_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an exchange that gives back what it got, one process is the whole batch."""
    from tledge.training import distributed

    monkeypatch.setattr(distributed.dist, "all_reduce", lambda tensor, group: None)
    torch.manual_seed(0)
    plain, spanning = torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 5, 5) * 2 + 1
    weights = torch.randn(4, 3, 5, 5)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    (plain(inputs[0]) * weights).sum().backward()
    with distributed.synchronised(spanning, Team(0, 2)):
        (spanning(inputs[1]) * weights).sum().backward()
    pairs = [(inputs[0].grad, inputs[1].grad), (plain.weight.grad, spanning.weight.grad)]
    pairs += list(zip(plain.state_dict().values(), spanning.state_dict().values(), strict=True))
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-5)
    assert "forward" not in spanning.__dict__
