"""A 1920 x 1080 NV12 frame to a 224 x 224 float32 tensor, one thread: tledge, tledge on RGB, or OpenCV.

    python benchmarks/frames.py tledge        # or rgb; opencv needs numpy and opencv-python-headless only

Each in a process (and an environment) of its own; run them in turns. OpenCV takes the nearest chroma and does
not antialias: it does less, and gives other pixels.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

WIDTH, HEIGHT, RUNS = 1920, 1080, 200


def with_tledge(rgb: bool) -> Callable[[], object]:
    from tledge.preprocess import Spec, preprocessor
    from tledge.preprocess.frames import Frame, to_rgb

    data = noise().tobytes()
    frame = Frame.packed(data, "nv12", WIDTH, HEIGHT, matrix="bt601", range="limited", siting="left")
    image, to_tensor = to_rgb(frame) if rgb else frame, preprocessor(Spec())
    out = to_tensor(image)
    return lambda: to_tensor(image, out)


def with_opencv() -> Callable[[], object]:
    import cv2

    cv2.setNumThreads(1)
    planes = noise().reshape(HEIGHT * 3 // 2, WIDTH)

    def run() -> object:
        pixels = cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_NV12)
        small = cv2.resize(pixels, (455, 256), interpolation=cv2.INTER_LINEAR)[16:240, 116:340]
        return cv2.dnn.blobFromImage(small, 1 / 127.5, mean=(127.5,) * 3)

    return run


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, WIDTH * HEIGHT * 3 // 2, np.uint8)


def main() -> None:
    tool = sys.argv[1]
    run = with_opencv() if tool == "opencv" else with_tledge(tool == "rgb")
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    print(f"{tool}: median {1000 * statistics.median(seconds):.2f} ms, least {1000 * min(seconds):.2f} ms")


if __name__ == "__main__":
    main()
