"""Video files, network streams and V4L2 cameras, demuxed and decoded by PyAV (FFmpeg's libraries)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tledge.errors import InputError, MachineError
from tledge.runtime.sources.colour import STANDARDS, UNSTATED, Colour, says
from tledge.runtime.sources.decoded import frame_of, kernel_format, said
from tledge.runtime.sources.failure import explained
from tledge.runtime.sources.shot import Shot

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer

# Protocols whose sender does not wait for the reader. Over HTTP it does, so that such a stream is a file.
LIVE = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "udp")
# Seconds to wait for a server, or for its next packet.
TIMEOUT = 5.0
# RTP over TCP, since over UDP a lost packet damages the picture. What libav reads to find out what the stream
# is is not shown afterwards: a camera's first second is not wanted late.
LIVE_OPTIONS = {"rtsp_transport": "tcp", "fflags": "nobuffer"}


@dataclass(frozen=True)
class Video:
    """A source that PyAV reads: a path, a URL, an open binary file, or a device.

    Attributes:
        name: what messages and answers call it.
        file: what `av.open` takes.
        live: whether it makes frames at its own pace.
        colour: what the caller states; it goes before what the stream says.
        container: libav's name of the container or device ("v4l2"); None: it finds out.
        options: libav's options for it.
        driver: what a device's driver says of its colours, asked once it is open.
        note: is told once what the frames are, and when their size changes.
    """

    name: str
    file: Any
    live: bool = False
    colour: Colour = UNSTATED
    container: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    driver: Callable[[], Colour] = lambda: UNSTATED
    note: Callable[[str], None] = lambda text: None

    def stop(self) -> None:
        """Do nothing: reads end by themselves, with the next frame or the time-out."""

    def shots(self) -> Generator[Shot, None, None]:
        """Yield the frames. See `Source`."""
        av = library()
        try:
            opened = av.open(
                self.file, format=self.container, options=self.options, timeout=(TIMEOUT, TIMEOUT)
            )
        except av.error.FFmpegError as error:
            raise explained(error, self.name, opening=True) from error
        with opened as container:
            if not container.streams.video:
                raise InputError(
                    f"{self.name} has no video stream", hint="Give a file with pictures.", path=self.name
                )
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise InputError(
                    f"{self.name} is encoded in a way that this FFmpeg cannot decode",
                    hint="Encode it again, as H.264 for instance.",
                    path=self.name,
                )
            yield from _Decoding(self, stream).shots(container)


class _Decoding:
    """The frames of one stream as they are demuxed, and what has been seen of it so far."""

    def __init__(self, video: Video, stream: VideoStream) -> None:
        self._video = video
        self._name = video.name
        self._stream = stream
        self._codec = stream.codec_context.name
        self._driver = video.driver()
        self._standard = STANDARDS.get(self._codec, UNSTATED)
        # Frame threads are the fastest, and hold frames back: for files only.
        stream.thread_type = "SLICE" if video.live else "AUTO"
        self._size = (0, 0)
        self._number = self._packets = 0
        self._end = 0.0
        self._damaged = False

    def shots(self, container: InputContainer) -> Generator[Shot, None, None]:
        av = library()
        # A packet of Motion JPEG is a JPEG file, which the kernels decode only as far as the crop needs. In
        # a QuickTime file it may have to be turned, which only libav knows.
        whole = self._codec == "mjpeg" and "mov" not in container.format.name
        take = self._picture if whole else self._decoded
        try:
            for packet in container.demux(self._stream):
                self._packets += packet.dts is not None  # the last one only ends decoding
                if packet.pts is not None and packet.time_base is not None:
                    self._end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                yield from take(packet)
        except av.error.FFmpegError as error:
            raise explained(error, self._name, opening=False, frames=self._number) from error
        self._check_end()

    def _decoded(self, packet: Packet[VideoStream]) -> Generator[Shot, None, None]:
        av = library()
        try:
            frames: list[VideoFrame] = packet.decode()
        except av.error.FFmpegError:
            self._damaged = True
            # A camera's stream is joined anywhere, and cannot be decoded before its next whole picture.
            if not (self._video.live and not self._number):
                yield self._shot(None, _seconds(packet))
            return
        for frame in frames:
            # What is predicted from a damaged picture is damaged too, up to the next whole one.
            self._damaged = frame.is_corrupt or (self._damaged and not frame.key_frame)
            if self._damaged:
                yield self._shot(None, frame.time)
                continue
            self._look(frame)
            stream = said(frame).filled(self._driver)
            image = frame_of(frame, self._name, self._video.colour, stream, self._standard)
            yield self._shot(image, frame.time)

    def _picture(self, packet: Packet[VideoStream]) -> Generator[Shot, None, None]:
        data = bytes(packet)
        if not data:  # the last packet, which only tells a decoder to finish
            return
        if data[6:10] == b"AVI1" and data[10] != 0:
            raise InputError(
                f"{self._name} is interlaced Motion JPEG: its pictures are half as high as the image",
                hint="Encode it again without interlacing: ffmpeg -i IN -vf yadif OUT.mp4.",
                path=self._name,
            )
        if self._size == (0, 0):
            self._size = (self._stream.width, self._stream.height)
            self._video.note(f"{self._name}: mjpeg, {_sized(self._size)}, JPEG files to the kernels")
        yield self._shot(data, _seconds(packet))

    def _shot(self, image: Any, seconds: float | None) -> Shot:
        number = self._number
        self._number += 1
        error = f"{self._name}: frame {number} is damaged" if image is None else None
        return Shot(self._name, number, image, seconds, error)

    def _look(self, frame: VideoFrame) -> None:
        """Say once what the frames are, and later what has changed."""
        size = (frame.width, frame.height)
        if size == self._size:
            return
        if self._size == (0, 0):
            format = kernel_format(frame, self._name)
            colour = says(self._video.colour, said(frame).filled(self._driver), self._standard)
            words = [self._codec, _sized(size), format, *([colour] if colour else [])]
            self._video.note(f"{self._name}: {', '.join(words)}")
        else:
            self._video.note(f"{self._name}: from frame {self._number} on {_sized(size)}")
        self._size = size

    def _check_end(self) -> None:
        """Refuse the end of what should not have ended.

        Raises:
            InputError: a live source ended; a file ends before its own header says, or holds no frame.
        """
        if self._video.live:
            raise InputError(
                f"{self._name} ended after {self._number} frames: it was unplugged, or its server stopped",
                hint="Look at the camera or the server, and run it again.",
                path=self._name,
            )
        expected = self._stream.frames
        tag = self._stream.metadata.get("DURATION")
        # Half a second of tolerance: the last frame's duration is often not said.
        if expected and self._packets < expected:
            cut = f"{self._packets} of {expected} frames"
        elif tag and self._end < seconds_of(tag) - 0.5:
            cut = f"{self._end:.1f} of {seconds_of(tag):.1f} seconds"
        elif not self._number:
            cut = "no frame"
        else:
            return
        raise InputError(
            f"{self._name} ends after {cut}: it was cut off",
            hint="The frames before were answered. Copy or record it again.",
            path=self._name,
        )


def library() -> Any:
    """Return PyAV.

    Raises:
        MachineError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MachineError(
            f"video and cameras need PyAV, which is not installed (no module {error.name})",
            hint='pip install "tledge[video]"',
        ) from error
    return av


def seconds_of(tag: str) -> float:
    """Return the seconds of a duration as Matroska's tags have it: `00:00:01.500000000`."""
    hours, minutes, seconds = tag.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def _seconds(packet: Packet[VideoStream]) -> float | None:
    if packet.pts is None or packet.time_base is None:
        return None
    return float(packet.pts * packet.time_base)


def _sized(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
