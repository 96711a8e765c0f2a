"""The options of frames, video and cameras, and the source that they name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from tledge.cli.options import width_by_height
from tledge.errors import UsageError

if TYPE_CHECKING:
    from tledge.runtime.sources import Source

FORMATS = ("nv12", "nv21", "i420", "yuyv", "uyvy", "bgrx", "rgba", "grey", "mjpeg")


def frame_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that `frames_of` takes."""
    for option in reversed(
        (
            click.option(
                "--format",
                "pixels",
                type=click.Choice(FORMATS),
                help="Ask a camera for it; of raw frames on -.",
            ),
            click.option(
                "--size",
                callback=width_by_height,
                metavar="WxH",
                help="Ask a camera for it; of raw frames on -.",
            ),
            click.option(
                "--rate", type=click.FloatRange(min=0, min_open=True), help="Ask a camera for it: frames/s."
            ),
            click.option(
                "--matrix", type=click.Choice(["bt601", "bt709", "bt2020"]), help="Of Y'CbCr frames."
            ),
            click.option(
                "--range", "levels", type=click.Choice(["limited", "full"]), help="Of Y'CbCr frames."
            ),
            click.option(
                "--siting",
                type=click.Choice(["left", "centre", "top-left"]),
                help="Of Y'CbCr frames' chroma.",
            ),
        )
    ):
        function = option(function)
    return function


def frames_of(
    images: tuple[str, ...],
    video: str | None,
    camera: str | None,
    note: Callable[[str], None],
    *,
    pixels: str | None,
    size: tuple[int, int] | None,
    rate: float | None,
    matrix: Any,
    levels: Any,
    siting: Any,
) -> Source | Iterator[str] | None:
    """Return the source that the command line names, the paths on standard input, or None for plain images.

    Raises:
        UsageError: it names none, or more than one, or has options that say nothing there.
    """
    from tledge.runtime import sources
    from tledge.runtime.sources import opening

    if sum(map(bool, (images, video, camera))) != 1:
        raise UsageError("give images, or --video, or --camera", hint="`tledge predict --help` has examples.")
    if "-" in images and len(images) > 1:
        raise UsageError(
            "- stands alone: standard input is all there is", hint="Give the others in another run."
        )
    raw = images == ("-",) and (pixels, size) != (None, None)
    asked = {"--format": pixels, "--size": size, "--rate": rate}
    coloured = {"--matrix": matrix, "--range": levels, "--siting": siting}
    useless = {} if camera else {"--rate": rate} if raw else asked
    if images and not raw:
        useless |= coloured
    for flag, value in useless.items():
        if value is not None:
            raise UsageError(
                f"{flag} says nothing here", hint="It is for --video, --camera or raw frames on -."
            )
    colour = sources.Colour(matrix, levels, siting)
    if video is not None:
        return sources.open_video(video, colour=colour, note=note)
    if camera is not None:
        return sources.open_camera(camera, colour=colour, note=note, size=size, rate=rate, format=pixels)
    if raw:
        if pixels is None or size is None or pixels == "mjpeg":
            raise UsageError(
                "raw frames need --format and --size",
                hint="JPEG files need neither: they tell by themselves.",
            )
        return opening.open_raw(pixels, size, colour)  # type: ignore[arg-type]  # click checked
    return opening.open_piped() if images == ("-",) else None
