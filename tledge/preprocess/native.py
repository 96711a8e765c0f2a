"""The compiled kernels (kernels/abi.h), found and declared for ctypes, which frees the GIL in each call."""

from __future__ import annotations

import ctypes
import functools
import os
from ctypes import POINTER, c_char_p, c_float, c_int, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import ClassVar

from tledge.errors import InputError, MachineError

ABI_VERSION = 10
LIBRARY = Path(__file__).parents[1] / "_lib" / "libtledge_kernels.so"
FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")


class CGeometry(ctypes.Structure):
    """tledge_geometry of kernels/abi.h."""

    _fields_: ClassVar = [
        *((name, c_int32) for name in ("source_width", "source_height", "resized_width", "resized_height")),
        *((name, c_int32) for name in ("left", "top", "width", "height")),
        *((name, c_int32) for name in ("output_width", "output_height", "pad_left", "pad_top")),
        ("filter", c_int32),
        ("channels_last", c_int32),
        ("order", c_int32 * 3),
        ("fill", c_int32 * 3),
        *((name, c_int32) for name in ("chroma", "between_columns", "between_rows")),
    ]


class CFrame(ctypes.Structure):
    """tledge_frame of kernels/abi.h."""

    _fields_: ClassVar = [
        *((name, c_int32) for name in ("format", "width", "height", "between_columns", "between_rows")),
        ("matrix", c_int32 * 6),
        ("planes", c_void_p * 3),
        ("strides", c_int64 * 3),
    ]


@functools.cache
def library() -> ctypes.CDLL:
    """Load the kernels.

    Raises:
        MachineError: the library is not there, does not load, or belongs to another version of tledge.
    """
    hint = "install tledge from its wheel, or build it here: pip install ."
    if not LIBRARY.is_file():
        if (LIBRARY.parents[2] / "pyproject.toml").is_file():
            # Python takes the source that lies beside a script before the package that was installed.
            hint = "this is the source, not built: run elsewhere, or build it here: pip install -e ."
        raise MachineError("the compiled preprocessing kernels are missing", hint=hint, path=LIBRARY)
    try:
        kernels = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise MachineError(
            f"the preprocessing kernels do not load: {error}", hint=hint, path=LIBRARY
        ) from error
    version = kernels.tledge_abi_version()
    if version != ABI_VERSION:
        message = f"the preprocessing kernels have interface {version}, this package needs {ABI_VERSION}"
        raise MachineError(message, hint=hint, path=LIBRARY)
    declare = {
        "tledge_set_name": (c_char_p, [c_int]),
        "tledge_set_runs_here": (c_int, [c_int]),
        "tledge_plan_new": (c_void_p, [POINTER(CGeometry), c_int]),
        "tledge_plan_free": (None, [c_void_p]),
        "tledge_plan_axis": (c_int64, [c_void_p, c_int, c_void_p]),
        "tledge_table_new": (c_void_p, [c_void_p, c_int, c_void_p]),
        "tledge_table_free": (None, [c_void_p]),
        "tledge_run": (c_int, [c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_int]),
        "tledge_run_frame": (c_int, [c_void_p, c_void_p, POINTER(CFrame), c_void_p, c_int]),
        "tledge_run_batch": (
            c_int,
            [
                *(c_int, POINTER(c_void_p), c_void_p, POINTER(c_void_p), POINTER(c_int64)),
                *(POINTER(POINTER(CFrame)), c_void_p, c_int),
            ],
        ),
        "tledge_jpeg_available": (c_int, []),
        "tledge_jpeg_size": (c_int, [c_char_p, c_int64, c_int, POINTER(c_int32), POINTER(c_int32)]),
        "tledge_run_jpeg": (
            c_int,
            [c_void_p, c_void_p, c_char_p, c_int64, c_int, c_void_p, c_int, POINTER(c_int64)],
        ),
        "tledge_normalise": (c_int, [c_int, c_void_p, c_void_p, c_int64, c_int, POINTER(c_int32), c_void_p]),
        "tledge_topk": (c_int, [c_void_p, c_int, c_int64, c_int, c_int, c_float, c_void_p, c_void_p]),
    }
    for name, (result, arguments) in declare.items():
        function = getattr(kernels, name)
        function.restype, function.argtypes = result, arguments
    return kernels


@functools.cache
def instruction_sets() -> dict[str, int]:
    """Return the instruction sets that this machine runs, best first, with their numbers."""
    kernels = library()
    found: dict[str, int] = {}
    number = 0
    while (name := kernels.tledge_set_name(number)) is not None:
        if kernels.tledge_set_runs_here(number):
            found[name.decode()] = number
        number += 1
    return found


def instruction_set() -> str:
    """Return the name of the instruction set in use: the best, or that of TLEDGE_INSTRUCTION_SET.

    Raises:
        InputError: the variable names one that this machine does not run.
    """
    sets = instruction_sets()
    wanted = os.environ.get("TLEDGE_INSTRUCTION_SET")
    if not wanted:
        return next(iter(sets))
    if wanted not in sets:
        raise InputError(
            f"TLEDGE_INSTRUCTION_SET is {wanted!r}", hint=f"this machine runs {', '.join(sets)}; unset it"
        )
    return wanted
