"""Whether the compiled kernels give the golden bytes on this machine."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass

from tledge.preprocess.golden import CASES, FRAME_CASES, GOLDEN, golden_frames, picture
from tledge.preprocess.host import HostPreprocessor
from tledge.preprocess.native import instruction_set, library


@dataclass(frozen=True)
class KernelCheck:
    """What `check` found.

    Attributes:
        instruction_set: the one in use, such as "avx512-vnni".
        threads: processors that this process may use.
        jpeg: whether they decode JPEGs; without libjpeg-turbo Pillow does, to the same bits.
        exact: whether the kernels gave the golden bytes.
        milliseconds: how long it took.
    """

    instruction_set: str
    threads: int
    jpeg: bool
    exact: bool
    milliseconds: float


def check() -> KernelCheck:
    """Run the kernels in use over the golden cases, which takes milliseconds.

    Raises:
        MachineError: the compiled library is missing.
    """
    begun = time.perf_counter()
    image = picture(131, 197)
    digest = hashlib.sha256()
    for spec in CASES:
        digest.update(HostPreprocessor(spec)(image).tobytes())
    exact = digest.hexdigest() == GOLDEN
    for spec, expected in FRAME_CASES:
        to_tensor = HostPreprocessor(spec)
        frames = hashlib.sha256(b"".join(to_tensor(frame).tobytes() for frame in golden_frames()))
        exact = exact and frames.hexdigest() == expected
    milliseconds = 1000 * (time.perf_counter() - begun)
    threads = len(os.sched_getaffinity(0))
    jpeg = bool(library().tledge_jpeg_available())
    return KernelCheck(instruction_set(), threads, jpeg, exact, milliseconds)
