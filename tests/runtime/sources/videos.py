"""Small videos for the tests, encoded by PyAV."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def picture(number: int, width: int, height: int) -> np.ndarray:
    """Return a uint8 image, H x W x 3, with edges and gradients that move with `number`."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, :, 0] = (np.arange(width) * 3 + 7 * number) % 256
    image[:, :, 1] = (np.arange(height) * 5)[:, None] % 256
    image[height // 4 : height // 2, number : number + width // 3] = (250, 20, 130)
    return image


def encode(
    path: Path,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    *,
    frames: int = 12,
    size: tuple[int, int] = (64, 48),
    matrix: int = 1,
    range: int = 1,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """Write a video of `picture`s; matrix and range are AVColorSpace and AVColorRange (0, 2: not said)."""
    with av.open(str(path), "w", options=container or {}) as output:
        stream = output.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.codec_context.thread_count = 1  # what an encoder's threads decide is in the bits
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, range
        for number in np.arange(frames):
            frame = av.VideoFrame.from_ndarray(picture(int(number), *size), format="rgb24")
            frame = frame.reformat(format=pixels)
            frame.colorspace, frame.color_range = matrix, range
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def turned(path: Path, degrees: int, out: Path) -> Path:
    """Write the same packets with a note that they are to be shown turned, as a telephone does."""
    with av.open(str(path)) as source, av.open(str(out), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(degrees)
        for packet in source.demux(video=0):
            if packet.dts is not None:  # not the empty one that ends a stream
                packet.stream = stream
                output.mux(packet)
    return out
