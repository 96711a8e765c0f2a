"""Builds what the GPU's stand-in needs: the driver, the kernels for the CPU, and the real pycuda."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "tests" / "standins" / "cuda_driver"
PYCUDA = "pycuda==2026.1"
BUILD_SECONDS = 900
SHARED = ("-shared", "-fPIC", "-Wall", "-Werror")


def compiler(*names: str) -> str:
    """Return the first of these compilers that is there, or skip."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(names)} is here to build the stand-in with")
    return found


def environment(folder: Path, config: pytest.Config) -> dict[str, str]:
    """Return the environment in which the real pycuda finds the stand-in, which is built in `folder`."""
    driver, kernels = build(folder)
    there = pycuda(Path(config.cache.mkdir("pycuda")), driver)
    folders = [str(ROOT), *([str(there)] if there else [])]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return inherited | {
        "LD_LIBRARY_PATH": str(folder),
        "STANDIN_KERNELS": str(kernels),
        "PYTHONPATH": os.pathsep.join(folders),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }


def python(environment: dict[str, str], *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these words in the environment, to which `more` is added."""
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=environment | more,
        cwd=ROOT,
    )


def build(folder: Path) -> tuple[Path, Path]:
    """Compile the driver and the kernels into `folder`; return their paths."""
    driver = folder / "libcuda.so.1"
    soname = "-Wl,-soname,libcuda.so.1"
    run(
        [
            compiler("gcc", "cc"),
            "-O1",
            *SHARED,
            soname,
            "-o",
            driver,
            SOURCES / "driver.c",
            "-ldl",
            "-pthread",
        ]
    )
    (folder / "libcuda.so").symlink_to(driver.name)
    return driver, build_kernels(folder)


def build_kernels(folder: Path) -> Path:
    """Compile the kernels for the CPU into `folder`; return the library's path."""
    kernels = folder / "libkernels.so"
    options = ["-O2", "-std=c++17", "-ffp-contract=off", *SHARED, f"-I{ROOT / 'kernels'}"]
    run([compiler("g++", "c++"), *options, "-o", kernels, SOURCES / "host_kernels.cpp"])
    return kernels


def pycuda(cache: Path, driver: Path) -> Path | None:
    """Return the folder that holds pycuda, None if this Python has it; else it is built against `driver`.

    The build takes about a minute of one core, unoptimised as it is, and is kept in `cache`. Skips where it
    cannot be done.
    """
    if importlib.util.find_spec("pycuda") is not None:
        return None
    version = f"{sys.version_info.major}{sys.version_info.minor}"
    folder = cache / f"{re.sub('[^a-z0-9.]', '-', PYCUDA)}-cp{version}"
    if folder.exists():
        return folder
    compiler("g++")
    home = cache / "home"
    home.mkdir(exist_ok=True)
    (home / ".aksetup-defaults.py").write_text(
        "CUDA_ENABLE_CURAND = CUDA_ENABLE_GL = False\nCXXFLAGS = ['-O0', '-g0']\n"
        f"CUDA_ROOT = {str(headers().parent)!r}\nCUDA_INC_DIR = [{str(headers())!r}]\n"
        f"CUDADRV_LIB_DIR = [{str(driver.parent)!r}]\nCUDADRV_LIBNAME = ['cuda']\n"
        "CUDART_LIB_DIR = []\nCUDART_LIBNAME = []\n"
    )
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "10"]
    result = subprocess.run(
        [*pip, "--no-binary", "pycuda", "--target", str(fresh), PYCUDA],
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
        env=os.environ | {"HOME": str(home)},
    )
    if result.returncode != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        last = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"{PYCUDA} cannot be built here: {last}")
    fresh.rename(folder)
    return folder


def passes(environment: dict[str, str], file: str) -> None:
    """Run a file of cases by pytest in a process of its own; all must pass, and none be skipped."""
    result = python(environment, "-m", "pytest", "-q", "-p", "no:cacheprovider", file)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "skipped" not in result.stdout
    assert "PyCUDA WARNING" not in result.stderr


def headers() -> Path:
    """Return the folder of CUDA's headers, a toolkit's or those that PyPI's packages bring; skip without."""
    places = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include"]
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        places += sorted(Path(folder).glob("*/include"))
    for place in places:
        if all((place / name).exists() for name in ("cuda.h", "cudaProfiler.h")):
            return place
    pytest.skip("no headers of CUDA (cuda.h, cudaProfiler.h) to build pycuda with")


def run(command: list[object]) -> None:
    subprocess.run(list(map(str, command)), check=True)
