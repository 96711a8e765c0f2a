"""From a word to a source: a path, a URL, a camera's name, or what a program yields."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tledge.errors import InputError, UsageError
from tledge.preprocess.frames import Format
from tledge.runtime.prediction import AnyImage
from tledge.runtime.sources import csi, stills
from tledge.runtime.sources.colour import UNSTATED, Colour
from tledge.runtime.sources.raw import Layout, RawFrames
from tledge.runtime.sources.shot import Source
from tledge.runtime.sources.v4l2 import driver_colour
from tledge.runtime.sources.video import LIVE, LIVE_OPTIONS, Video

STDIN = "standard input"
LONGEST_PATH = 1 << 16  # bytes; Linux has none above 4096
# What V4L2 and libav call the kernels' formats (libavdevice, v4l2-common.c); mjpeg is compressed.
PIXEL_FORMATS = {
    "nv12": "nv12",
    "nv21": "nv21",
    "i420": "yuv420p",
    "yuyv": "yuyv422",
    "uyvy": "uyvy422",
    "bgrx": "bgr0",
    "grey": "gray",
    "mjpeg": "mjpeg",
}

Note = Callable[[str], None]


def silent(text: str) -> None:
    """Note nothing."""


def open_source(
    source: str | os.PathLike[str] | Source | Iterable[AnyImage],
    *,
    colour: Colour = UNSTATED,
    live: bool | None = None,
    note: Note = silent,
) -> Source:
    """Return what `source` names, to be read.

    A word is a camera (`/dev/video0`, `csi:0`), a URL, a folder of images, an image or a video file; an image
    is told by the ending of its name. Anything else is iterated over for images and frames; `live` says
    whether those that come faster than they are answered are dropped (default: no).
    """
    if isinstance(source, Source):
        return source
    if not isinstance(source, (str, os.PathLike)):
        return stills.Images("images", source, live=bool(live))
    word = os.fspath(source)
    if word.startswith(("/dev/video", "csi:")):
        return open_camera(word, colour=colour, note=note)
    from tledge.data.names import is_image

    if "://" not in word and (Path(word).is_dir() or is_image(word)):
        return stills.files(Path(word))
    return open_video(word, colour=colour, note=note, live=live)


def open_video(
    word: str,
    *,
    colour: Colour = UNSTATED,
    note: Note = silent,
    live: bool | None = None,
) -> Video:
    """Return a video file, a URL, or `-`, a video on standard input. Its protocol says if it is `live`."""
    if word == "-":
        return Video(STDIN, standard_input(), colour=colour, note=note)
    scheme = word.partition("://")[0] if "://" in word else ""
    live = scheme in LIVE if live is None else live
    return Video(
        shown(word), word, live=live, colour=colour, options=LIVE_OPTIONS if scheme in LIVE else {}, note=note
    )


def open_camera(
    word: str,
    *,
    colour: Colour = UNSTATED,
    note: Note = silent,
    size: tuple[int, int] | None = None,
    rate: float | None = None,
    format: str | None = None,
) -> Source:
    """Return a camera: `/dev/video0` or `0` by V4L2, `csi:0` by GStreamer on a Jetson.

    Args:
        word: its name.
        colour: what holds for its numbers, where it does not say.
        note: is told what its frames are.
        size: width and height to ask for; None: what it is set to.
        rate: frames a second to ask for.
        format: of `PIXEL_FORMATS`, to ask for; V4L2 only.

    Raises:
        UsageError: it names no camera; or there is no such format.
    """
    if format is not None and format not in PIXEL_FORMATS:
        raise UsageError(f"a camera cannot be asked for {format}", hint=f"Known: {', '.join(PIXEL_FORMATS)}.")
    if found := re.fullmatch(r"csi:(\d+)", word):
        if format not in (None, "nv12"):
            raise UsageError(f"{word} gives nv12, not {format}", hint="Leave --format out.")
        return csi.csi(int(found[1]), size=size, rate=rate, colour=colour, note=note)
    if word.isdigit():
        word = f"/dev/video{word}"
    if not word.startswith("/dev/"):
        raise UsageError(
            f"{word} names no camera",
            hint="Give /dev/video0 (or 0) or csi:0; a network camera is --video rtsp://HOST/PATH.",
        )
    options = {}
    if size is not None:
        options["video_size"] = f"{size[0]}x{size[1]}"
    if rate is not None:
        options["framerate"] = f"{rate:g}"
    if format is not None:
        options["input_format"] = PIXEL_FORMATS[format]
    return Video(
        word,
        word,
        live=True,
        colour=colour,
        container="v4l2",
        options=options,
        driver=lambda: driver_colour(word),
        note=note,
    )


def open_raw(format: Format, size: tuple[int, int], colour: Colour) -> RawFrames:
    """Return the raw frames on standard input, without gaps between rows, planes and frames."""
    return RawFrames(STDIN, standard_input(), Layout(format, *size), colour)


def open_piped() -> stills.PipedImages | Iterator[str]:
    """Return the images on standard input; or, where it does not begin as an image, the paths, one a line."""
    pipe, begun = standard_input(), b""
    while len(begun) < 8 and (piece := pipe.read(8 - len(begun))):
        begun += piece
    if begun.startswith(stills.BEGINNINGS):
        return stills.PipedImages(STDIN, pipe, begun)
    return _lines(pipe, begun)


def _lines(pipe: io.FileIO, begun: bytes) -> Iterator[str]:
    """Yield the lines that are not empty, each as soon as it is there.

    Raises:
        InputError: a line is longer than any path: what comes is no list of paths.
    """
    with pipe:
        while True:
            *whole, begun = begun.split(b"\n")
            yield from (os.fsdecode(line) for line in whole if line.strip())
            if len(begun) > LONGEST_PATH:
                raise InputError(
                    f"{STDIN} has neither images nor paths: a line of more than {LONGEST_PATH} bytes",
                    hint="Send JPEG or PNG files one after another, or paths, one a line.",
                    path=STDIN,
                )
            piece = pipe.read(1 << 16)
            if not piece:
                break
            begun += piece
    if begun.strip():
        yield os.fsdecode(begun)


def standard_input() -> io.FileIO:
    """Return standard input, unbuffered: a thread that waits in it shall not hold up the process's end."""
    return io.FileIO(os.dup(sys.stdin.fileno()))


def shown(word: str) -> str:
    """Return a URL as messages show it: without a password."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", word)
