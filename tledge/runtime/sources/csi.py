"""Cameras behind GStreamer, such as a Jetson's CSI cameras: a child process, whose frames come in a pipe."""

from __future__ import annotations

import io
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Generator
from contextlib import nullcontext
from dataclasses import dataclass, field

from tledge.errors import InputError, MachineError, TledgeError
from tledge.preprocess.frames import Format
from tledge.runtime.sources.colour import UNSTATED, Colour, says, settled
from tledge.runtime.sources.raw import Layout, filled
from tledge.runtime.sources.shot import Shot

PROGRAM = "gst-launch-1.0"
# Seconds for the pipeline to start: the camera's daemon on a Jetson takes one or two.
STARTING = 10.0
# Seconds for it to stop by itself, so that the camera's daemon is not left with an open camera.
STOPPING = 2.0
# GStreamer's names of formats, rows at multiples of 4 bytes (gst-plugins-base, video-info.c).
FORMATS: dict[str, Format] = {
    "NV12": "nv12",
    "NV21": "nv21",
    "I420": "i420",
    "YUY2": "yuyv",
    "UYVY": "uyvy",
    "BGRx": "bgrx",
    "BGRA": "bgrx",
    "RGBx": "rgba",
    "RGBA": "rgba",
    "GRAY8": "grey",
}
ALIGN = 4
# GstVideoColorRange and GstVideoColorMatrix, the first two numbers of a colorimetry, and its short names;
# chroma-site's names (gst-plugins-base, video-color.c and video-chroma.c).
RANGES = {"1": "full", "2": "limited"}
MATRICES = {"3": "bt709", "4": "bt601", "6": "bt2020"}
COLORIMETRIES = {"bt601": "2:4", "bt709": "2:3", "bt2020": "2:6", "bt2020-10": "2:6"}
SITINGS = {"mpeg2": "left", "h-cosited": "left", "jpeg": "centre", "none": "centre", "cosited": "top-left"}


@dataclass(frozen=True)
class Pipeline:
    """A GStreamer pipeline that makes raw video, as a live source.

    Attributes:
        name: what messages and answers call it.
        elements: the pipeline, as gst-launch-1.0 takes it, up to its sink.
        colour: what the caller states; it goes before what the pipeline says.
        note: is told once what the frames are.
    """

    name: str
    elements: tuple[str, ...]
    colour: Colour = UNSTATED
    note: Callable[[str], None] = lambda text: None
    live: bool = True
    _started: list[subprocess.Popen[str]] = field(default_factory=list)

    def stop(self) -> None:
        """End the child, which ends the pipe: politely first, so that the camera is given back."""
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(STOPPING)
                except subprocess.TimeoutExpired:
                    process.kill()

    def shots(self) -> Generator[Shot, None, None]:
        """Yield the frames. See `Source`."""
        program = shutil.which(PROGRAM)
        if program is None:
            raise MachineError(
                f"{self.name} needs GStreamer, and there is no {PROGRAM}",
                hint="sudo apt install gstreamer1.0-tools gstreamer1.0-plugins-base",
            )
        reading, writing = os.pipe()
        words = [program, "-v", *self.elements, "!", "fdsink", f"fd={writing}", "sync=false"]
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            pass_fds=[writing],
            start_new_session=True,  # Ctrl-C reaches it through `stop`, once
        )
        os.close(writing)
        self._started.append(process)
        try:
            with io.FileIO(reading) as pipe:
                yield from self._frames(_Said(process), pipe)
        finally:
            self.stop()
            process.wait()

    def _frames(self, said: _Said, pipe: io.FileIO) -> Generator[Shot, None, None]:
        caps = self._caps(said)
        layout, stream = layout_of(caps, self.name), colour_of(caps)
        colour = settled(self.name, layout.format, self.colour, stream, UNSTATED)
        words = [f"{layout.width} x {layout.height}", layout.format, says(self.colour, stream, UNSTATED)]
        self.note(f"{self.name}: GStreamer, {', '.join(filter(None, words))}")
        number = 0
        while (data := filled(pipe, layout.size, self.name)) is not None:
            yield Shot(self.name, number, layout.frame(data, colour))
            number += 1
            if said.others(caps):
                raise InputError(
                    f"{self.name} changed its frames after {number} of them",
                    hint="Run it again, with --size and --rate, which keep them as they are.",
                    path=self.name,
                )
        raise said.error(self.name, number)

    def _caps(self, said: _Said) -> str:
        try:
            caps = said.caps.get(timeout=STARTING)
        except queue.Empty:
            raise InputError(
                f"{self.name} did not start within {STARTING:g} seconds",
                hint="Is the camera in use? On a Jetson: sudo systemctl restart nvargus-daemon.",
                path=self.name,
            ) from None
        if caps is None:
            raise said.error(self.name, 0)
        return caps


class _Said:
    """What gst-launch-1.0 prints, read by threads: the caps of its sink (None: it ended), and its errors."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.caps: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str] = []
        self._process = process
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._read_caps, self._read_errors)
        ]
        for thread in self._threads:
            thread.start()

    def _read_caps(self) -> None:
        with self._process.stdout or nullcontext(()) as lines:
            for line in lines:
                if "GstFdSink" in line and "sink: caps = " in line:
                    self.caps.put(line.partition("caps = ")[2].strip())
        self.caps.put(None)

    def _read_errors(self) -> None:
        with self._process.stderr or nullcontext(()) as lines:
            for line in lines:
                if re.search("error|erroneous", line, re.IGNORECASE) and len(self._errors) < 20:
                    self._errors.append(line.strip())

    def others(self, caps: str) -> bool:
        """Tell whether other caps came since. The end is none: frames may still be in the pipe."""
        while not self.caps.empty():
            if self.caps.get() not in (caps, None):
                return True
        return False

    def error(self, name: str, frames: int) -> TledgeError:
        """Return why the pipeline ended."""
        for thread in self._threads:
            thread.join(STOPPING)
        said = self._errors[0] if self._errors else "its stream is over"
        missing = re.search(r'no element "(\S+)"', said)
        if missing:
            return MachineError(
                f"{name} needs GStreamer's element {missing[1]}, which is not installed",
                hint="On a Jetson it comes with JetPack (nvidia-l4t-gstreamer); elsewhere there is none."
                if missing[1].startswith("nv")
                else f"Find its package: gst-inspect-1.0 {missing[1]}.",
            )
        return InputError(
            f"{name} ended after {frames} frames: {said}",
            hint="Was it unplugged, or is it in use? Look at it, and run it again.",
            path=name,
        )


def csi(
    sensor: int,
    *,
    size: tuple[int, int] | None = None,
    rate: float | None = None,
    colour: Colour = UNSTATED,
    note: Callable[[str], None] = lambda text: None,
) -> Pipeline:
    """Return a Jetson's CSI camera as a source, in NV12 as its image processor makes it.

    `size` is width and height, `rate` frames a second.
    """
    width, height = size or (1920, 1080)
    camera = f"video/x-raw(memory:NVMM),format=NV12,width={width},height={height}"
    if rate is not None:
        camera += f",framerate={round(1000 * rate)}/1000"
    elements = f"nvarguscamerasrc sensor-id={sensor} ! {camera} ! nvvidconv ! video/x-raw,format=NV12"
    return Pipeline(f"csi:{sensor}", tuple(elements.split()), colour, note)


def layout_of(caps: str, name: str) -> Layout:
    """Return how frames lie under GStreamer's caps.

    Raises:
        InputError: they are no raw video that the kernels take.
    """
    format = _field(caps, "format")
    width, height = _field(caps, "width"), _field(caps, "height")
    if format not in FORMATS or not width or not height:
        raise InputError(
            f"{name} gives {format or caps}, which the kernels do not take",
            hint=f"They take {', '.join(FORMATS)}.",
            path=name,
        )
    return Layout(FORMATS[format], int(width), int(height), ALIGN)


def colour_of(caps: str) -> Colour:
    """Return what caps say of the colour."""
    colorimetry = _field(caps, "colorimetry") or ""
    range, _, rest = COLORIMETRIES.get(colorimetry, colorimetry).partition(":")
    siting = SITINGS.get(_field(caps, "chroma-site") or "")
    return Colour(MATRICES.get(rest.partition(":")[0]), RANGES.get(range), siting)  # type: ignore[arg-type]


def _field(caps: str, name: str) -> str | None:
    found = re.search(rf"\b{name}=\(\w+\)([^,;\s]+)", caps)
    return found[1].strip('"') if found else None
