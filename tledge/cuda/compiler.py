"""Kernels are compiled on the machine that runs them, once, and kept.

A cubin of one CUDA major release does not load into another's driver, so none is shipped: the sources are.
nvcc compiles them where a CUDA toolkit is installed, NVRTC (one library, also on PyPI) elsewhere. The cache
is keyed by everything that the result depends on: sources, headers, flags, architecture, compiler.

`-fmad=false` forbids the compiler to fuse a multiplication and an addition into one rounding, which no other
device would repeat; division and square root are correctly rounded by default. So a kernel of float32
arithmetic gives the bits that the host gives with `-ffp-contract=off`.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tledge.bundle.files import user_cache, write_atomic
from tledge.errors import MachineError, TledgeError, UsageError

FLAGS = ("-std=c++17", "-fmad=false")
HEADERS = (".h", ".cuh", ".inc")
# NVRTC has the types of these headers built in or not at all, and reads no header of the system.
NVRTC_HEADERS = {
    "stddef.h": "#pragma once\ntypedef unsigned long size_t;\n",
    "stdint.h": "#pragma once\n"
    + "".join(
        f"typedef signed {kind} int{bits}_t;\ntypedef unsigned {kind} uint{bits}_t;\n"
        for kind, bits in (("char", 8), ("short", 16), ("int", 32), ("long long", 64))
    ),
}
NVRTC_RELEASES = (13, 12)
SHOWN = 12  # lines of a compiler's complaints


@dataclass(frozen=True)
class Compiler:
    """What compiles: `nvcc` or `nvrtc`, where it is, and its release such as "12.6"."""

    kind: str
    path: str
    release: str

    @property
    def numbers(self) -> tuple[int, ...]:
        """Return the release as numbers, the major one first."""
        return tuple(map(int, self.release.split(".")))


def compile_kernels(
    source: Path,
    architecture: str,
    *,
    include: Sequence[Path] = (),
    using: str = "auto",
    cuda: int | None = None,
) -> bytes:
    """Return the cubin of the CUDA source file, from the cache if it was compiled before.

    Args:
        source: The `.cu` file.
        architecture: The GPU's, such as "sm87".
        include: Folders of headers.
        using: "nvcc", "nvrtc", or "auto" for the first that is there.
        cuda: The major release of CUDA that the driver is of: a newer one's cubins do not load.

    Raises:
        MachineError: there is no compiler.
        TledgeError: it refuses the source.
    """
    compiler = find_compiler(using, cuda)
    place = cache_folder() / f"{_key(source, architecture, include, compiler)}.cubin"
    try:
        return place.read_bytes()
    except OSError:
        compiled, _ = compiled_by(compiler, source, architecture, include)
    try:
        write_atomic(place, compiled)
    except TledgeError:
        return compiled  # a cache that cannot be written costs time and nothing else
    return compiled


def kernels_folder() -> Path:
    """Return the folder of the kernels' sources: the package's own, in a checkout kernels/."""
    package = Path(__file__).parents[1]
    installed = package / "_lib" / "kernels"
    return installed if installed.is_dir() else package.parent / "kernels"


def cache_folder() -> Path:
    """Return the folder of compiled kernels."""
    return user_cache("kernels")


def compiled_by(
    compiler: Compiler, source: Path, architecture: str, include: Sequence[Path], *more: str
) -> tuple[bytes, str]:
    """Return the cubin and what the compiler said, without the cache; `more` are further options."""
    work = _nvcc if compiler.kind == "nvcc" else _nvrtc
    return work(source, [*_options(architecture, include), *more], compiler)


def find_compiler(using: str = "auto", cuda: int | None = None) -> Compiler:
    """Return the compiler to use: see `compile_kernels`; MachineError if there is none."""
    if using not in ("auto", "nvcc", "nvrtc"):
        raise UsageError(f"no compiler is called {using!r}", hint="Known: auto, nvcc, nvrtc.")
    found = [compiler for compiler in compilers() if using in ("auto", compiler.kind)]
    fitting = [compiler for compiler in found if cuda is None or compiler.numbers[0] <= cuda]
    if not fitting:
        newer = f": {found[0].kind} {found[0].release} is newer than the driver" if found else ""
        raise MachineError(
            "there is no compiler for CUDA kernels here"
            + (newer or ("" if using == "auto" else f" ({using})")),
            hint="Install nvcc (JetPack 6: sudo apt install cuda-nvcc-12-6), or NVRTC of the driver's CUDA "
            "(JetPack 6: pip install nvidia-cuda-nvrtc-cu12; JetPack 7: nvidia-cuda-nvrtc).",
        )
    return fitting[0]


@cache
def compilers() -> tuple[Compiler, ...]:
    """Return the compilers that are here: nvcc, then NVRTC, the newest first."""
    nvcc = _find_nvcc()
    return (*((nvcc,) if nvcc else ()), *sorted(_find_nvrtc(), key=lambda one: one.numbers, reverse=True))


def _find_nvcc() -> Compiler | None:
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    places = [shutil.which("nvcc"), *(str(Path(home) / "bin" / "nvcc") for home in homes if home)]
    for place in places:
        if place and Path(place).exists():
            said = subprocess.run([place, "--version"], capture_output=True, text=True, check=False).stdout
            if release := re.search(r"release (\d+\.\d+)", said):
                return Compiler("nvcc", place, release[1])
    return None


def _find_nvrtc() -> list[Compiler]:
    names = [f"libnvrtc.so.{release}" for release in NVRTC_RELEASES]
    spec = importlib.util.find_spec("nvidia")  # PyPI's wheels put their libraries under this package
    for folder in spec.submodule_search_locations or () if spec else ():
        names += [str(path) for path in sorted(Path(folder).glob("*/lib/libnvrtc.so.*[0-9]"))]
    found: dict[str, Compiler] = {}  # one of each release
    for name in names:
        try:
            library = _load_nvrtc(name)
        except OSError:
            continue
        major, minor = ctypes.c_int(), ctypes.c_int()
        if library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)) == 0:
            release = f"{major.value}.{minor.value}"
            found.setdefault(release, Compiler("nvrtc", name, release))
    return list(found.values())


def _load_nvrtc(name: str) -> ctypes.CDLL:
    """Load NVRTC, and first what it loads itself, by name: some of its wheels do not say where that is."""
    if os.path.isabs(name):
        for builtins in Path(name).parent.glob("libnvrtc-builtins.so.*[0-9]"):
            ctypes.CDLL(str(builtins))
    return ctypes.CDLL(name)


def _key(source: Path, architecture: str, include: Sequence[Path], compiler: Compiler) -> str:
    digest = hashlib.sha256()
    for words in (architecture, *FLAGS, compiler.kind, compiler.release):
        digest.update(words.encode() + b"\0")
    headers = [path for folder in include for path in sorted(folder.iterdir()) if path.suffix in HEADERS]
    for path in (source, *headers):
        data = path.read_bytes()
        digest.update(f"{path.name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:32]


def _options(architecture: str, include: Sequence[Path]) -> list[str]:
    return [*FLAGS, f"-arch=sm_{architecture.removeprefix('sm')}", *(f"-I{folder}" for folder in include)]


def _nvcc(source: Path, options: Sequence[str], compiler: Compiler) -> tuple[bytes, str]:
    with tempfile.TemporaryDirectory(prefix="tledge-nvcc-") as folder:
        out = Path(folder) / "kernels.cubin"
        command = [compiler.path, "-cubin", "-o", str(out), *options, str(source)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise _refused(source, options, compiler, result.stderr)
        return out.read_bytes(), result.stderr


def _nvrtc(source: Path, options: Sequence[str], compiler: Compiler) -> tuple[bytes, str]:
    library = _load_nvrtc(compiler.path)
    library.nvrtcGetErrorString.restype = ctypes.c_char_p

    def call(name: str, *arguments: object) -> None:
        code = getattr(library, name)(*arguments)
        if code != 0:
            raise TledgeError(f"{name}: {library.nvrtcGetErrorString(code).decode()}")

    texts = [text.encode() for text in NVRTC_HEADERS.values()]
    names = [name.encode() for name in NVRTC_HEADERS]
    strings = ctypes.c_char_p * len(texts)
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    call(
        "nvrtcCreateProgram",
        ctypes.byref(program),
        source.read_bytes(),
        source.name.encode(),
        len(texts),
        strings(*texts),
        strings(*names),
    )
    try:
        words = [option.encode() for option in options]
        code = library.nvrtcCompileProgram(program, len(words), (ctypes.c_char_p * len(words))(*words))
        call("nvrtcGetProgramLogSize", program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        call("nvrtcGetProgramLog", program, log)
        said = log.value.decode(errors="replace")
        if code != 0:
            raise _refused(source, options, compiler, said)
        call("nvrtcGetCUBINSize", program, ctypes.byref(size))
        cubin = ctypes.create_string_buffer(size.value)
        call("nvrtcGetCUBIN", program, cubin)
        return cubin.raw, said
    finally:
        call("nvrtcDestroyProgram", ctypes.byref(program))


def _refused(source: Path, options: Sequence[str], compiler: Compiler, log: str) -> TledgeError:
    lines = [line for line in log.splitlines() if line.strip()][:SHOWN]
    if "nsupported gpu architecture" in log or "invalid value for --gpu-architecture" in log:
        architecture = next(option for option in options if option.startswith("-arch"))
        return MachineError(
            f"{compiler.kind} {compiler.release} does not compile for {architecture.partition('=')[2]}",
            hint="Use the CUDA release that the GPU's driver came with.",
        )
    return TledgeError(
        f"{compiler.kind} {compiler.release} refuses {source.name}:\n" + "\n".join(lines), path=source
    )
