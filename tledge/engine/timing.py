"""The timing cache: what TensorRT measured in earlier builds, so that the next one need not measure again.

It holds times of one TensorRT on one GPU, and is kept for each pair in the user's cache folder. TensorRT for
RTX chooses its kernels without timing them, and has none.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tledge.bundle.files import user_cache, write_atomic
from tledge.errors import TledgeError
from tledge.runtime import machine
from tledge.runtime.tensorrt_library import Library


def place(library: Library) -> Path | None:
    """Return where the cache of this library on the first GPU is kept; None where there is none."""
    gpus = machine.cuda().gpus
    if library.backend == "tensorrt-rtx" or not gpus:
        return None
    capability = "".join(map(str, gpus[0].compute_capability))
    gpu = re.sub(r"[^A-Za-z0-9]+", "-", gpus[0].name).strip("-").lower()
    return user_cache("timing") / f"{library.backend}-{library.version}-{gpu}-sm{capability}.cache"


def attach(library: Library, config: Any) -> Path | None:
    """Give what was measured before to the builder's `config`; return the path to `keep` it under."""
    path = place(library)
    if path is None:
        return None
    try:
        data = path.read_bytes()
    except OSError:
        data = b""  # the first build on this machine, or a cache that may not be read: it measures anew
    cache = config.create_timing_cache(data)
    if cache is None or not config.set_timing_cache(cache, False):
        # Of another version under the same name, or damaged: begin a new one.
        config.set_timing_cache(config.create_timing_cache(b""), False)
    return path


def keep(config: Any, path: Path | None) -> None:
    """Write what this build measured for the next one; that this fails is no fault of the build."""
    if path is None:
        return
    cache = config.get_timing_cache()
    if cache is None:
        return
    try:
        write_atomic(path, bytes(cache.serialize()))
    except TledgeError:
        return
