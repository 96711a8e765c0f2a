"""What every command has: `--json`, `--config`, `-v`, `-q`, and a way to answer."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tledge.bundle import Row
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


def subcommand(name: str, **extra: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator that makes a function `f(output, ...)` a command with the common options."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        def run(as_json: bool, verbose: int, quiet: bool, **options: Any) -> Any:
            output = Output(as_json, Progress(quiet=quiet))
            with warnings_hidden(unless=verbose > 0):
                return function(output, **options)

        run.__doc__ = function.__doc__
        run.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        common = (
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout."),
            click.option(
                "--config",
                type=FilePath,
                is_eager=True,
                expose_value=False,
                callback=_read_config,
                help="Settings from a TOML file; flags win.",
            ),
            click.option("-v", "--verbose", count=True, help="Say more; -vv shows tracebacks."),
            click.option("-q", "--quiet", is_flag=True, help="No progress on standard error."),
        )
        for option in reversed(common):
            option(run)
        made: click.Command = click.command(name, context_settings={"show_default": True}, **extra)(run)
        return made

    return decorate


@contextmanager
def warnings_hidden(*, unless: bool) -> Iterator[None]:
    """Hide Python's warnings while the block runs: they are meant for programmers, and come back with `-v`."""
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
