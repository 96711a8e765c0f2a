"""`tledge serve`: an HTTP endpoint."""

from __future__ import annotations

import math
from pathlib import Path

import click

from tledge.cli.options import FilePath, Output, subcommand
from tledge.errors import MachineError, UsageError


@subcommand("serve")
@click.argument("bundle", type=FilePath)
@click.option("--host", default="127.0.0.1", help="Address to listen on; any but loopback needs a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="Port; 0: any that is free.")
@click.option("--token", envvar="TLEDGE_TOKEN", help="What every request must bear (or TLEDGE_TOKEN).")
@click.option("--queue", type=click.IntRange(1), default=64, help="Requests at once; more are told to wait.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Inferences at once, which share the cores; default: one a core. 1 answers a lone client soonest.",
)
@click.option("--variant", default="auto", help="fp32, fp16, int8 or int8-cpu.")
@click.option("--backend", default="auto", help="onnxruntime, openvino, tensorrt or tensorrt-rtx.")
def command(
    output: Output,
    bundle: Path,
    host: str,
    port: int,
    token: str | None,
    queue: int,
    workers: int | None,
    variant: str,
    backend: str,
) -> None:
    """Answer `POST /predict` with the labels of the image whose bytes are the body, until stopped."""
    try:
        import uvicorn

        from tledge.serving import Limits, application
        from tledge.serving.hosts import is_loopback
    except ImportError as error:
        raise MachineError(
            "serve needs starlette, uvicorn and prometheus-client", hint='pip install "tledge[serve]"'
        ) from error
    if not token and not is_loopback(host):
        raise UsageError(f"--host {host} lets others in, and there is no token", hint="Set TLEDGE_TOKEN.")
    from tledge.bundle import Bundle
    from tledge.runtime import load
    from tledge.runtime.choose import passed_over
    from tledge.runtime.machine import physical_cores

    if backend == "auto":
        for reason in passed_over(Bundle.open(bundle)):
            output.progress.note(reason)
    cores = physical_cores()
    workers = workers or cores
    # An inference on one thread costs the least processor time: more of them at once answer more images.
    model = load(bundle, backend=backend, variant=variant, threads=max(1, cores // workers))
    for note in model.notes:
        output.progress.note(note)
    output.progress.note(f"{model.variant} on {model.backend}, {workers} at once; a browser shows a page")
    limits = Limits(queue=queue, workers=workers)
    app = application(model, token=token or None, limits=limits)
    # uvicorn stops listening on SIGTERM or Ctrl-C, finishes what it took, and raises the signal again.
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="info",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(limits.slow + limits.whole),
    )
