"""`tledge doctor`: what this machine can run."""

from __future__ import annotations

from tledge.cli.options import Output, subcommand


@subcommand("doctor")
def command(output: Output) -> None:
    """Say what this machine can run, and what to install for the rest."""
    from tledge import doctor

    report = doctor.report()
    output.show(report, doctor.text(report))
