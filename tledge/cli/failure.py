"""From errors to words and exit codes: the one place where a process is told how to end."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from types import FrameType

import click

from tledge.errors import MachineError, TledgeError, UsageError

INTERRUPTED, TERMINATED = 130, 143
# What takes long enough to be worth going on with; the others begin anew.
GOES_ON = {
    "finetune": "; the same command with --resume goes on",
    "build-engine": "; engines that were finished are kept, and the same command builds the others",
}


class Terminated(BaseException):
    """SIGTERM arrived: unwound like Ctrl-C, so that locks go and nothing is left half-written."""


def guarded(command: click.Command, words: list[str]) -> int:
    """Run `command` with `words` and return its exit code; whatever goes wrong is said once.

    Under `--json` an error is one JSON document on standard output. A traceback is shown only with `-vv`.
    """
    as_json = "--json" in words
    traced = "-vv" in words or words.count("-v") + words.count("--verbose") > 1
    signal.signal(signal.SIGTERM, _terminate)
    try:
        result = command.main(words, prog_name="tledge", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except (click.Abort, KeyboardInterrupt):
        print(f"tledge: interrupted{_next_step(words)}", file=sys.stderr)
        return INTERRUPTED
    except Terminated:
        print(f"tledge: terminated{_next_step(words)}", file=sys.stderr)
        return TERMINATED
    except Exception as error:
        if traced:
            traceback.print_exc()
        known = as_known(error)
        say(known, as_json=as_json)
        return known.exit_code


def _next_step(words: list[str]) -> str:
    """Return how to go on with the command that was stopped, or ""."""
    return GOES_ON.get(words[0], "") if words else ""


def as_known(error: Exception) -> TledgeError:
    """Return `error` as one of ours; what is neither click's nor a lack of memory is a fault of tledge."""
    if isinstance(error, TledgeError):
        return error
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = f"`{context.command_path} --help` lists the options." if context else ""
        return UsageError(error.format_message(), hint=hint)
    if isinstance(error, MemoryError):
        return MachineError(
            "out of memory", hint="Close other programs, or take a smaller batch (--batch-size)."
        )
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(frame.filename)}:{frame.lineno}"
    return TledgeError(
        f"a fault of tledge: {type(error).__name__}: {error} ({place})",
        hint="Run it again with -vv and report the traceback; your files are as they were.",
    )


def say(error: TledgeError, *, as_json: bool) -> None:
    """Print the error for a person, or as the JSON document of the contract."""
    if as_json:
        print(json.dumps({"error": error.as_dict()}, ensure_ascii=False))
    print(f"tledge: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  {error.hint}", file=sys.stderr)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
