"""The child process that builds: `python -m tledge.engine.worker FOLDER`, started by `tledge.engine.process`.

FOLDER/request.json says what to build. Standard output carries one JSON document a line: progress, then the
answer; the plan is written to FOLDER/plan. The build stops when standard input is closed, so that it never
outlives who asked for it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
import threading
from pathlib import Path
from typing import TextIO

from tledge.engine.builder import Built, Cancelled, build
from tledge.engine.settings import BuildSettings
from tledge.errors import TledgeError
from tledge.runtime.engine_manifest import tupled
from tledge.runtime.tensorrt_library import load

GRACE = 10.0  # seconds in which a cancelled build must come to its next step


def main(folder: Path) -> None:
    """Build what the request asks for, and answer."""
    # What libraries print belongs to standard error: standard output is the channel to the parent.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    cancelled = threading.Event()
    finished = threading.Event()
    threading.Thread(target=_wait_for_parent, args=(cancelled, finished), daemon=True).start()
    try:
        answer = _build(folder, channel, cancelled)
    except Cancelled:
        answer = {"cancelled": True}
    except TledgeError as error:
        answer = {"error": error.as_dict()}
    finished.set()
    _say(channel, answer)


def _build(folder: Path, channel: TextIO, cancelled: threading.Event) -> dict[str, object]:
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    path = Path(request["onnx"])
    settings = BuildSettings(**tupled(request["settings"]))
    last = ""

    def watch(phase: str, steps: int, done: int) -> bool:
        nonlocal last
        # A network of a thousand layers makes thousands of steps: a line for each per cent is enough.
        key = f"{phase} {100 * done // max(steps, 1)}"
        if key != last:
            last = key
            _say(channel, {"phase": phase, "steps": steps, "done": done})
        return not cancelled.is_set()

    built = build(load(settings.backend), path.read_bytes(), path, settings, watch)
    (folder / "plan").write_bytes(built.plan)
    return {"built": _as_dict(built), "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


def _as_dict(built: Built) -> dict[str, object]:
    return {
        "inputs": [dataclasses.asdict(port) for port in built.inputs],
        "outputs": [dataclasses.asdict(port) for port in built.outputs],
        "report": dataclasses.asdict(built.report),
        "warnings": list(built.warnings),
        "seconds": built.seconds,
    }


def _wait_for_parent(cancelled: threading.Event, finished: threading.Event) -> None:
    """Cancel the build when the parent closes our standard input, or is gone."""
    while os.read(0, 1):
        continue
    cancelled.set()
    if not finished.wait(GRACE):
        os._exit(1)  # a step of a minute: nobody waits for its end, and nothing of it is kept


def _say(channel: TextIO, document: dict[str, object]) -> None:
    channel.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
