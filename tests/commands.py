"""`tledge` commands in processes of their own that need not import their libraries first.

A command imports torch and much else, which takes longer than the work of most tests. So the libraries, and
nothing of tledge, are imported once into a process that does no more than fork: each command begins as any
`python -m tledge` does once its libraries are there, and can be killed as one.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

LIBRARIES = "click onnx onnxruntime onnxscript openvino sklearn.linear_model timm torch torchvision".split()
HANGS_SECONDS = 600
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(LIBRARIES)


@dataclass(frozen=True)
class Said:
    """How a command ended (None: it was killed after its time), and what it wrote."""

    code: int | None
    stdout: str
    stderr: str


def tledge(folder: Path, *words: str, kill_after: float | None = None) -> Said:
    """Run `tledge WORDS` in `folder`; kill it with SIGKILL after that many seconds, or where it hangs."""
    with TemporaryDirectory() as place:
        files = [Path(place, name) for name in ("stdout", "stderr")]
        process = SERVER.Process(target=_command, args=(folder, words, dict(os.environ), *files))
        process.start()
        process.join(HANGS_SECONDS if kill_after is None else kill_after)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        assert code is not None or kill_after is not None, f"tledge {' '.join(words)} hangs"
        return Said(code, *(file.read_text() for file in files))


def _command(folder: Path, words: tuple[str, ...], environment: dict[str, str], out: Path, err: Path) -> None:
    for stream, file in ((sys.stdout, out), (sys.stderr, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), stream.fileno())
    os.chdir(folder)
    os.environ.update(environment)
    from tledge.cli import main

    main(words)
