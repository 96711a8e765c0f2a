"""`tledge report`: what a bundle knows about itself, for people to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tledge.bundle import Bundle
from tledge.cli.options import FilePath, Output, subcommand
from tledge.errors import UsageError


@subcommand("report")
@click.argument("bundle", type=FilePath)
@click.option("-o", "--out", type=FilePath, help="Where the page goes; default: beside the bundle, as .html.")
@click.option("--csv", "csv_file", type=FilePath, help="Write the ledger as CSV.")
@click.option(
    "--markdown", "as_markdown", is_flag=True, help="Print the ledger as a table for a pull request."
)
@click.option("--compare", "other", type=FilePath, help="A second bundle, scored on the same images.")
@click.option("--stage", help="Whose answers are looked at; default: fp32@onnxruntime.")
@click.option(
    "--bench", type=FilePath, multiple=True, help="A result of `tledge bench --json`; can be repeated."
)
def command(
    output: Output,
    bundle: Path,
    out: Path | None,
    csv_file: Path | None,
    as_markdown: bool,
    other: Path | None,
    stage: str | None,
    bench: tuple[Path, ...],
) -> None:
    """Make one HTML page of BUNDLE: ledger, flips, confusion, worst errors, reliability, lineage.

    The page holds everything itself and loads nothing. With --csv or --markdown it is made only if -o is
    given too.
    """
    from tledge import report
    from tledge.bench import results

    evidence = report.gather(Bundle.open(bundle))
    second = report.gather(Bundle.open(other)) if other else None
    compared = report.compared(evidence, second, stage) if second else None
    document: dict[str, Any] = {"bundle": str(bundle), "report": None, "bytes": None}
    lines = []
    if out is None and not csv_file and not as_markdown:
        out = evidence.bundle.path.resolve().with_suffix(".html")
    if out is None and bench:
        raise UsageError("--bench belongs to the page", hint="Give -o FILE.html as well.")
    if out is not None:
        benches = tuple(results.read(path) for path in bench)
        html = report.page(evidence, stage=stage, benches=benches, compared=compared, other=second)
        size = report.write_page(evidence, out, html)
        document |= {"report": str(out), "bytes": size}
        lines.append(f"{out}: {size / 1024:.0f} KiB")
    if csv_file is not None:
        report.write_csv(evidence, csv_file)
        document["csv"] = str(csv_file)
        lines.append(f"{csv_file}: {len(evidence.rows)} stages")
    if as_markdown:
        document["markdown"] = report.markdown(evidence, compared, second)
        lines = [document["markdown"]]
    if second is not None:
        document["compared"] = str(other)
    output.show(document, "\n".join(lines))
