"""Processor time from a frame of a 1080p video to a 224 x 224 float32 tensor: tledge, or RGB first.

    python benchmarks/sources.py make clip.mp4          # or clip.avi: Motion JPEG; needs av and scikit-learn
    python benchmarks/sources.py tledge clip.mp4        # the decoder's frames to the kernels
    python benchmarks/sources.py pyav-rgb clip.mp4      # converted to RGB by PyAV, then the same kernels
    python benchmarks/sources.py decode clip.mp4        # PyAV decodes, and nothing else
    python benchmarks/sources.py opencv clip.mp4        # needs numpy and opencv-python-headless only

Each in a process (and an environment) of its own; run them in turns. The figure is the processor time of all
threads of the process, an image. OpenCV does not antialias: it does less, and gives other pixels.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

WIDTH, HEIGHT, FRAMES, RUNS = 1920, 1080, 150, 3


def make(path: str) -> None:
    import av
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_image

    photo = Image.fromarray(load_sample_image("china.jpg")).resize((WIDTH + 2 * FRAMES, HEIGHT))
    jpeg = path.endswith(".avi")
    with av.open(path, "w") as output:
        stream = output.add_stream("mjpeg" if jpeg else "libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p" if jpeg else "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = (5, 2) if jpeg else (1, 1)
        if jpeg:
            stream.codec_context.options = {"qmin": "3", "qmax": "3"}
        for number in range(FRAMES):
            part = np.asarray(photo.crop((2 * number, 0, 2 * number + WIDTH, HEIGHT)))
            frame = av.VideoFrame.from_ndarray(part, format="rgb24").reformat(format=stream.pix_fmt)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


def with_tledge(path: str) -> Iterator[object]:
    from tledge.preprocess import Spec, preprocessor
    from tledge.runtime.sources import open_video

    to_tensor = preprocessor(Spec())
    for shot in open_video(path).shots():
        yield to_tensor.jpeg(shot.image) if isinstance(shot.image, bytes) else to_tensor(shot.image)


def with_pyav(path: str, rgb: bool) -> Iterator[object]:
    import av

    if rgb:
        from tledge.preprocess import Spec, preprocessor

        to_tensor = preprocessor(Spec())
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            yield to_tensor(frame.to_ndarray(format="rgb24")) if rgb else frame


def with_opencv(path: str) -> Iterator[object]:
    import cv2

    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(path)
    while True:
        there, pixels = capture.read()
        if not there:
            return
        small = cv2.resize(pixels, (455, 256), interpolation=cv2.INTER_LINEAR)[16:240, 116:340]
        yield cv2.dnn.blobFromImage(small, 1 / 127.5, mean=(127.5,) * 3, swapRB=True)


def main() -> None:
    tool, path = sys.argv[1:]
    if tool == "make":
        return make(path)
    figures = []
    for _ in range(RUNS):
        frames = {
            "tledge": lambda: with_tledge(path),
            "pyav-rgb": lambda: with_pyav(path, True),
            "decode": lambda: with_pyav(path, False),
            "opencv": lambda: with_opencv(path),
        }[tool]()
        started = time.process_time()
        count = sum(1 for _ in frames)
        figures.append(1000 * (time.process_time() - started) / count)
    figures.sort()
    print(f"{tool}: {count} frames, median {figures[RUNS // 2]:.2f} ms of CPU, least {figures[0]:.2f} ms")
    return None


if __name__ == "__main__":
    main()
