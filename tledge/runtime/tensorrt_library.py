"""TensorRT and TensorRT for RTX behind one name: loaded late, their version known, their absence explained.

The two have nearly the same Python API. What differs between releases 10.3 and 11.4 and TensorRT for RTX is
asked of the module itself (does the name exist?), never guessed from a version.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from tledge.errors import MachineError, UsageError, nearest

# backend: (module, its name for people, how to get it)
MODULES = {
    "tensorrt": (
        "tensorrt",
        "TensorRT",
        "On a Jetson it comes with JetPack: `sudo apt install python3-libnvinfer`, in a virtual environment "
        'made with --system-site-packages. On a PC: pip install "tledge[tensorrt]".',
    ),
    "tensorrt-rtx": ("tensorrt_rtx", "TensorRT for RTX", 'pip install "tledge[rtx]"'),
}
BACKENDS = tuple(MODULES)

# The opsets that each release's parser is documented to read, newest first, with the IR version of the ONNX
# release it carries. The parser itself accepts any number and fails later, or not at all. Sources:
# onnx-tensorrt docs/operators.md (10.15: 9 to 24) and docs/Changelog.md (ONNX 1.17, of opset 22, since 10.6);
# release notes of 10.13 (9 to 24); for 11.x (9 to 25, ONNX 1.20)
# docs.nvidia.com/deeplearning/tensorrt/latest/reference/onnx-opset-guide.html
OPSETS = (((11, 0), 25, 13), ((10, 13), 24, 12), ((10, 6), 22, 10), ((10, 0), 20, 10))
OPSETS_RTX = (((0, 0), 24, 12),)
OLDEST_OPSET = 9


@dataclass(frozen=True)
class Library:
    """One of the two, imported: `module` is the Python module, `version` what it says of itself."""

    backend: str
    module: Any
    version: str

    @property
    def title(self) -> str:
        """Return what people call it, with its version: `TensorRT 10.3.0`."""
        return f"{title(self.backend)} {self.version}"

    @property
    def newest(self) -> tuple[int, int]:
        """Return the newest opset and the newest IR version that it is documented to read."""
        table = OPSETS_RTX if self.backend == "tensorrt-rtx" else OPSETS
        major, minor = (int(part) for part in self.version.split(".")[:2])
        for since, opset, ir_version in table:
            if (major, minor) >= since:
                return opset, ir_version
        return table[-1][1:]


def title(backend: str) -> str:
    """Return what people call the library of `backend`."""
    return MODULES[backend][1]


def check_backend(backend: str) -> None:
    """Raise UsageError, with the nearest name, if engines cannot be built for `backend`."""
    if backend not in MODULES:
        raise UsageError(f"no engines are built for the backend {backend!r}", hint=nearest(backend, MODULES))


def load(backend: str) -> Library:
    """Import the library of `backend`.

    Raises:
        UsageError: there is no such backend.
        MachineError: the package is missing, too old, or cannot be loaded; the hint says how to get it.
    """
    check_backend(backend)
    name, title, hint = MODULES[backend]
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MachineError(f"{title} is not installed (no module {error.name})", hint=hint) from error
    except (ImportError, OSError) as error:
        raise MachineError(f"{title} is installed and cannot be loaded: {error}", hint=hint) from error
    version = str(module.__version__)
    if backend == "tensorrt" and int(version.split(".", maxsplit=1)[0]) < 10:
        raise MachineError(
            f"TensorRT {version} is too old: tledge builds strongly typed engines, with 10.3 or later",
            hint="JetPack 6.1 and later have it (docs/jetson.md).",
        )
    return Library(backend, module, version)
