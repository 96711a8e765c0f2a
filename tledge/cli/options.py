"""What every command has: `--json`, `--config`, `-v`, `-q`, and a way to answer."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tledge.bundle import Bundle, Row
from tledge.progress import Progress

FilePath = click.Path(path_type=Path)


@dataclass(frozen=True)
class Output:
    """How a command answers: one JSON document, or text, on standard output; progress on standard error."""

    as_json: bool
    progress: Progress

    def show(self, document: dict[str, Any], text: str) -> None:
        """Print `document` under `--json`, else `text`."""
        print(json.dumps(document, ensure_ascii=False, allow_nan=False) if self.as_json else text)


def subcommand(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator that makes a function `f(output, ...)` a command with the common options."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        def run(as_json: bool, verbose: int, quiet: bool, **options: Any) -> Any:
            try:
                with warnings_hidden(unless=verbose > 0):
                    result = function(Output(as_json, Progress(quiet=quiet)), **options)
                sys.stdout.flush()
            except BrokenPipeError:
                # Whoever read our output has gone (`... | head`): do not flush into it again at exit.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 0
            return result

        command: click.Command = click.command(name, context_settings={"show_default": True})(function)
        command.callback = run
        command.params += _common()
        return command

    return decorate


def _common() -> list[click.Parameter]:
    return [
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document on standard output."),
        click.Option(
            ["--config"],
            type=FilePath,
            is_eager=True,
            expose_value=False,
            callback=_read_config,
            help="Settings from a TOML file; flags win.",
        ),
        click.Option(["-v", "--verbose"], count=True, help="Say more; -vv shows tracebacks."),
        click.Option(["-q", "--quiet"], is_flag=True, help="No progress on standard error."),
    ]


@contextmanager
def warnings_hidden(*, unless: bool) -> Iterator[None]:
    """Hide Python's warnings while the block runs: they are for programmers, and come back with `-v`."""
    with warnings.catch_warnings():
        if not unless:
            warnings.simplefilter("ignore")
        yield


def _read_config(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    from tledge import config
    from tledge.cli import COMMANDS

    options = [
        p.name
        for p in context.command.params
        if isinstance(p, click.Option) and p.name and p.name != "config"
    ]
    values = config.read(path, str(context.info_name), COMMANDS, [o for o in options if o != "as_json"])
    context.default_map = {**(context.default_map or {}), **values}


def width_by_height(
    context: click.Context, option: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    """Return an option such as 1280x720 as (width, height): a callback of click's."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", value)
    if not found:
        raise click.BadParameter(f"{value!r} is no size such as 1280x720", context, option)
    return int(found[1]), int(found[2])


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as text: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def ledger(rows: Sequence[Row]) -> str:
    """Return the ledger as a table for people."""

    def cell(value: float | int | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return columns(
        ("stage", "images", "top-1 %", "95 % interval", "top-5 %", "kept %", "flips", "KL"),
        [
            (
                row.stage,
                str(row.n),
                f"{row.top1:.2f}",
                f"{row.top1_low:.1f} to {row.top1_high:.1f}",
                f"{row.top5:.2f}",
                cell(row.agreement, ".2f"),
                cell(row.flips, "d"),
                cell(row.kl, ".5f"),
            )
            for row in rows
        ],
    )


def stage_answer(bundle: Bundle, rows: Sequence[Row], seconds: float) -> tuple[dict[str, Any], str]:
    """Return the answer of a command that scores stages: `rows` are its own, last in the bundle's ledger."""
    own = {row.stage for row in rows}
    every = [row for row in bundle.ledger if row.stage not in own] + list(rows)
    document = {
        "bundle": str(bundle.path),
        "ledger": [row.as_dict() for row in every],
        "seconds": round(seconds, 3),
    }
    return document, f"{ledger(every)}\n\n{bundle.path}: done in {seconds:.1f} s"
