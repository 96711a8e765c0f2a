"""Batches that do not fit: pieces that do, with the same gradients, said and kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.conftest import QUICK
from tests.training.test_finetune import StopAt, Stopped
from tledge.data import find
from tledge.errors import MachineError
from tledge.models import Network
from tledge.progress import Progress
from tledge.training import finetune
from tledge.training.micro import Pieces, accumulate


@given(st.integers(1, 300), st.integers(0, 40), st.integers(1, 2))
def test_pieces_are_the_batch(count: int, most: int, least: int) -> None:
    sizes = Pieces(most, least).of(count)
    assert sum(sizes) == count
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(count, least)
    assert not most or max(sizes) <= max(most, 2 * least - 1)


def _gradients(limit: int, pieces: Pieces) -> tuple[torch.Tensor, float]:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5))
    x, y = torch.randn(13, 5), torch.randn(13)

    def loss(start: int, end: int) -> torch.Tensor:
        if end - start > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return ((x[start:end] @ weight - y[start:end]) ** 2).sum() / 13

    value = accumulate(loss, 13, torch.optim.SGD([weight]), pieces, Progress.silent())
    assert weight.grad is not None
    return weight.grad, value


def test_pieces_give_the_gradients_of_the_whole() -> None:
    whole, value = _gradients(99, Pieces())
    pieces = Pieces()
    parts, same = _gradients(4, pieces)
    assert pieces.most == 2  # all 13, then 5, 4 and 4, then 2 at a time
    assert torch.allclose(whole, parts, atol=1e-6)
    assert same == pytest.approx(value)


def test_what_never_fits_is_said() -> None:
    with pytest.raises(MachineError, match="1 image at a time"):
        _gradients(0, Pieces())
    with pytest.raises(MachineError, match="3 images at a time"):
        _gradients(0, Pieces(least=2))
    with pytest.raises(MachineError, match="each process"):
        Pieces().halve(16, alone=False)


def test_a_run_goes_on_with_what_fits(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forward = Network.forward

    def small(self: Network, images: torch.Tensor) -> torch.Tensor:
        if self.training and len(images) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, images)

    monkeypatch.setattr(Network, "forward", small)
    settings = dataclasses.replace(QUICK, epochs=2)
    whole = finetune(find(digits), tmp_path / "a.tledge", settings, Progress(terminal=False))
    assert "out of memory with 16 images at a time: going on with 8" in capsys.readouterr().err
    history = whole.settings["finetune"]["chosen"]["history"]
    assert [entry["micro_batch"] for entry in history] == [8, 8]
    with pytest.raises(Stopped):
        finetune(find(digits), tmp_path / "b.tledge", settings, StopAt("epoch 2"))
    resumed = finetune(find(digits), tmp_path / "b.tledge", resume=True)
    assert resumed.sha256("model.safetensors") == whole.sha256("model.safetensors")
