"""The child process: what comes back, and what is said when it is killed, crashes or is no longer wanted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engine import networks
from tledge.engine import process
from tledge.engine.process import build_apart
from tledge.engine.settings import BuildSettings
from tledge.errors import InputError, MachineError
from tledge.progress import Progress, Task
from tledge.runtime import machine

SM86 = BuildSettings("tensorrt-rtx", batch=(1, 4, 8), targets=("sm86",))
needs_no_gpu = pytest.mark.skipif(not machine.cuda().reason, reason="of a machine without a GPU")


@pytest.fixture
def model(tmp_path) -> Path:
    path = tmp_path / "int8.onnx"
    path.write_bytes(networks.network("int8"))
    return path


class Meddler(Progress):
    """A progress that does something to the child at its first step."""

    def __init__(self, deed) -> None:
        super().__init__(quiet=True)
        self.deed = deed

    @contextmanager
    def task(self, title, total=None, unit="images"):
        deed = self.deed

        class Meddling(Task):
            def advance(self, count=1, *, note=""):
                deed()

        yield Meddling(title, total, unit)


def children() -> list[int]:
    """Return this process's children, dead ones that nobody waited for among them."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def signalled(number: int):
    def deed() -> None:
        for pid in children():
            if b"tledge.engine.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, number)

    return deed


@pytest.mark.tensorrt
@needs_no_gpu
@pytest.mark.usefixtures("rtx")
def test_the_engine_comes_back_whole(model):
    outcome = build_apart(model, SM86, progress=Progress.silent(), title="int8")
    assert len(outcome.built.plan) > 1000
    assert outcome.built.report.not_int8 == ()
    assert len(outcome.built.report.wanted_int8) == 4
    assert outcome.built.inputs[0].shape == (-1, 3, networks.SIZE, networks.SIZE)
    assert outcome.peak_mib > 10


@pytest.mark.tensorrt
@needs_no_gpu
@pytest.mark.usefixtures("rtx")
def test_an_error_of_the_build_is_raised_here(model):
    model.write_bytes(networks.one_node("Det"))
    with pytest.raises(InputError, match=r"'odd' \(Det\)") as caught:
        build_apart(model, SM86, progress=Progress.silent(), title="int8")
    assert caught.value.path == str(model)


@pytest.mark.tensorrt
@needs_no_gpu
@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGKILL, "was killed, most likely because.*memory"), (signal.SIGSEGV, "SIGSEGV")],
)
def test_a_child_that_dies_is_an_error_with_advice(model, number, said):
    before = children()  # other tests of this process may have left servers
    with pytest.raises(MachineError, match=said) as caught:
        build_apart(model, SM86, progress=Meddler(signalled(number)), title="int8")
    assert caught.value.hint
    assert children() == before


@pytest.mark.tensorrt
@needs_no_gpu
@pytest.mark.usefixtures("rtx")
def test_an_interrupted_build_leaves_no_child(model):
    before = children()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_apart(model, SM86, progress=Meddler(interrupt), title="int8")
    assert children() == before


@pytest.mark.tensorrt
@needs_no_gpu
@pytest.mark.usefixtures("rtx")
def test_a_worker_whose_parent_is_gone_stops(model, tmp_path):
    (tmp_path / "request.json").write_text(
        f'{{"onnx": "{model}", "settings": {{"backend": "tensorrt-rtx", "targets": ["sm86"]}}}}'
    )
    command = [sys.executable, "-m", "tledge.engine.worker", str(tmp_path)]
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=300
    )
    assert '{"cancelled": true}' in result.stdout
    assert not (tmp_path / "plan").exists()


def test_a_missing_library_is_told_by_the_child(model):
    if process_has("tensorrt"):
        pytest.skip("TensorRT is installed")
    with pytest.raises(MachineError, match="TensorRT is not installed") as caught:
        build_apart(model, BuildSettings("tensorrt"), progress=Progress.silent(), title="int8")
    assert "JetPack" in caught.value.hint


def process_has(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None


def test_a_child_that_ends_without_a_word_is_an_error(model, monkeypatch):
    monkeypatch.setattr(process.sys, "executable", "/bin/false")
    with pytest.raises(MachineError, match="ended with code 1"):
        build_apart(model, SM86, progress=Progress.silent(), title="int8")
