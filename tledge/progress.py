"""Progress on standard error: a bar on a terminal, plain lines elsewhere, nothing when quiet.

Standard output belongs to results, so nothing here ever writes to it. The stages take a `Progress` and know
nothing of terminals.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Task:
    """One countable piece of work: call `advance` as units of it are done."""

    title: str
    total: int | None
    unit: str
    started: float = field(default_factory=time.monotonic)
    done: int = 0
    bar: Any = None
    bar_id: Any = None

    def advance(self, count: int = 1, *, note: str = "") -> None:
        """Count `count` more units as done; `note` is a short live remark such as the loss."""
        self.done += count
        if self.bar is not None:
            self.bar.update(self.bar_id, advance=count, rate=f"{self.rate():.0f} {self.unit}/s", note=note)

    def rate(self) -> float:
        """Return units a second since the task began."""
        return self.done / max(time.monotonic() - self.started, 1e-9)


class Progress:
    """Where stages report what they do."""

    def __init__(self, *, quiet: bool = False, terminal: bool | None = None) -> None:
        self.quiet = quiet
        self.terminal = sys.stderr.isatty() if terminal is None else terminal

    @classmethod
    def silent(cls) -> Progress:
        """Return a progress that says nothing: for tests and for use as a library."""
        return cls(quiet=True, terminal=False)

    def note(self, text: str) -> None:
        """Print one line about what was found or decided."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def task(self, title: str, total: int | None = None, unit: str = "images") -> Iterator[Task]:
        """Show `title` while the block runs, with `total` units to do (None: unknown)."""
        task = Task(title, total, unit)
        if self.quiet or not self.terminal:
            yield task
        else:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description:<24}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
                task.bar, task.bar_id = bar, bar.add_task(title, total=total, rate="", note="")
                yield task
        if task.done:
            seconds = time.monotonic() - task.started
            self.note(f"{title}: {task.done} {task.unit} in {seconds:.1f} s ({task.rate():.0f}/s)")
