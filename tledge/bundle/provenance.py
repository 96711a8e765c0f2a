"""Which versions and which machine made a part of the bundle. No host name, no user name, no path."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "tledge numpy Pillow onnx onnxruntime-gpu onnxruntime openvino torch torchvision timm scikit-learn "
    "safetensors tensorrt tensorrt-rtx-cu13 pycuda"
).split()


def versions() -> dict[str, str]:
    """Return the version of each package that matters to a result and is installed here, and Python's."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Return architecture, processor and the number of cores that this process may use."""
    return {
        "architecture": platform.machine(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
    }


def processor() -> str:
    """Return the processor's name as the kernel gives it, or the board's on arm64, else the empty string."""
    for path, key in (("/proc/cpuinfo", "model name"), ("/proc/device-tree/model", "")):
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            if not key:
                return line.strip("\0 ")
            if line.startswith(key):
                return line.partition(":")[2].strip()
    return ""


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
