"""A build in a process of its own.

On a board, a build that takes too much memory is killed by the kernel without a word, and TensorRT itself may
crash on a graph. Here either is an error of the build, with advice, and whoever asked for it lives on.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tledge.errors
from tledge.engine.builder import Built
from tledge.engine.layers import Layer, Report
from tledge.engine.settings import BuildSettings
from tledge.errors import MachineError, TledgeError
from tledge.progress import Progress, Task
from tledge.runtime.engine_manifest import EnginePort, tupled

GRACE = 5.0  # seconds that a cancelled build has to end by itself
SHOWN = 2000  # bytes of what a crashed build said last


@dataclass(frozen=True)
class Outcome:
    """What came out of the child process: the engine, and the most memory (MiB) that the process had."""

    built: Built
    peak_mib: int


def build_apart(onnx: Path, settings: BuildSettings, *, progress: Progress, title: str) -> Outcome:
    """Build the engine of the ONNX file at `onnx` in a child process, and return it.

    Raises:
        InputError, UsageError, MachineError: see `tledge.engine.builder.build`.
        MachineError: the child was killed, for lack of memory as a rule, or crashed.
    """
    with tempfile.TemporaryDirectory(prefix="tledge-engine-") as name:
        folder = Path(name)
        request = {"onnx": str(onnx.resolve()), "settings": dataclasses.asdict(settings)}
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        with (folder / "stderr").open("wb") as errors, _child(folder, errors) as child:
            answer = _follow(child, progress, title)
        said = (folder / "stderr").read_bytes()[-SHOWN:].decode("utf-8", "replace").strip()
        if answer is None:
            raise _died(child.returncode, onnx, said)
        if "error" in answer:
            raise _as_error(answer["error"])
        return Outcome(_as_built(answer["built"], (folder / "plan").read_bytes()), answer["peak_mib"])


@contextmanager
def _child(folder: Path, errors: Any) -> Iterator[subprocess.Popen[str]]:
    """Start the worker, and see that it is gone afterwards, however the block ends."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tledge.engine.worker", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        encoding="utf-8",
        # Ctrl-C is for the parent, who closes the pipe; the build then ends at its next step.
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        yield child
    finally:
        child.stdin.close()
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()


def _follow(child: subprocess.Popen[str], progress: Progress, title: str) -> dict[str, Any] | None:
    """Show the child's progress; return its answer, or None if it ended without one."""
    assert child.stdout is not None
    with progress.task(title, unit="steps") as task:
        for line in child.stdout:
            document: dict[str, Any] = json.loads(line)
            if "phase" not in document:
                return document
            _advance(task, document)
    return None


def _advance(task: Task, document: dict[str, Any]) -> None:
    task.advance(note=f"{document['phase']} {document['done']}/{document['steps']}")


def _died(code: int | None, onnx: Path, said: str) -> TledgeError:
    if code == -signal.SIGKILL:
        return MachineError(
            f"the build of {onnx.name} was killed, most likely because the machine ran out of memory; "
            "the bundle is as it was",
            hint="Give a smaller --workspace or a smaller largest batch, close other programs, stop the "
            "desktop (sudo init 3), or add swap (docs/jetson.md). `sudo dmesg | tail` says whether it was "
            "memory.",
            path=onnx,
        )
    how = f"by signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"with code {code}"
    last = f"; its last words: {said.splitlines()[-1]}" if said else ""
    return MachineError(
        f"the build of {onnx.name} ended {how}{last}",
        hint="If it ends so again, `--precision fp32` tells whether the graph's precision is the cause.",
        path=onnx,
    )


def _as_error(document: dict[str, Any]) -> TledgeError:
    kinds = {
        kind.kind: kind
        for kind in vars(tledge.errors).values()
        if isinstance(kind, type) and issubclass(kind, TledgeError)
    }
    return kinds[document["kind"]](document["message"], hint=document["hint"] or "", path=document["path"])


def _as_built(document: dict[str, Any], plan: bytes) -> Built:
    def ports(key: str) -> tuple[EnginePort, ...]:
        return tuple(EnginePort(p["name"], p["dtype"], tuple(p["shape"])) for p in document[key])

    report = document["report"]
    return Built(
        plan=plan,
        inputs=ports("inputs"),
        outputs=ports("outputs"),
        report=Report(
            **{
                **report,
                "layers": tuple(Layer(**tupled(layer)) for layer in report["layers"]),
                "wanted_int8": tuple(report["wanted_int8"]),
            }
        ),
        warnings=tuple(document["warnings"]),
        seconds=document["seconds"],
    )
