"""The report's files, each written whole or not at all, and never into a bundle."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

from tledge.bundle import Bundle, Row
from tledge.bundle.files import write_atomic
from tledge.errors import InputError, UsageError
from tledge.report.evidence import Evidence


def write_page(evidence: Evidence, out: Path, html: str) -> int:
    """Write the page to `out` and return its size in bytes.

    Raises:
        UsageError: `out` is inside of the bundle.
        InputError: it is a folder, or there is something else that is no file.
        MachineError: it may not be written, or the disk is full.
    """
    return _write(evidence.bundle, out, html.encode())


def write_csv(evidence: Evidence, out: Path) -> int:
    """Write the ledger to `out`, one line a stage under the ledger's own keys, and return its size in bytes.

    Raises as `write_page` does.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    names = [field.name for field in dataclasses.fields(Row)]
    writer.writerow(names)
    for row in evidence.rows:
        values = row.as_dict()
        writer.writerow([_cell(values[name]) for name in names])
    return _write(evidence.bundle, out, file.getvalue().encode())


def _cell(value: Any) -> Any:
    """Return the value; words that a spreadsheet would run as a formula get an apostrophe before them."""
    return (
        f"'{value}"
        if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        else value
    )


def _write(bundle: Bundle, out: Path, data: bytes) -> int:
    if out.resolve().is_relative_to(bundle.path.resolve()):
        raise UsageError(
            f"{out} is inside of the bundle", hint="Choose another place with -o or --csv.", path=out
        )
    if out.is_dir():
        raise InputError(f"{out} is a folder", hint="Name the file that is to be written.", path=out)
    write_atomic(out, data)
    return len(data)
