"""`tledge audit`: what is wrong with a folder of images."""

from __future__ import annotations

from pathlib import Path

import click

from tledge.cli.options import FilePath, Output, subcommand


@subcommand("audit")
@click.argument("data", type=FilePath)
def command(output: Output, data: Path) -> None:
    """Look at every image in DATA: unreadable, duplicate and leaked files, small classes, odd sizes."""
    from tledge.data import find
    from tledge.data.audit import audit

    report = audit(find(data), progress=output.progress)
    output.show(report.as_dict(), report.text())
