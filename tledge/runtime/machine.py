"""What this machine offers: cores that the process may use, instruction sets, an NVIDIA GPU.

Everything is read from the kernel's own files or from libcuda by ctypes: nothing is imported, and nothing
takes longer than a few milliseconds (starting libcuda where a GPU is present excepted).
"""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


def _read(path: str) -> str:
    """Return the text of a kernel file, or "" where this machine has none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _cgroup_quota() -> float | None:
    """Return the CPU limit of the process's control group in CPUs (a container's `--cpus`), else None."""
    version_2 = _read("/sys/fs/cgroup/cpu.max").split()
    if len(version_2) == 2 and version_2[0] != "max":
        return int(version_2[0]) / int(version_2[1])
    quota, period = (
        _read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
        _read("/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    )
    if quota and period and int(quota) > 0:
        return int(quota) / int(period)
    return None


@lru_cache(maxsize=1)
def available_cpus() -> tuple[int, ...]:
    """Return the logical CPUs that this process may run on, ascending.

    Kept from the first call: OpenVINO pins the threads that call it, and a later look would see one CPU only.
    """
    return tuple(sorted(os.sched_getaffinity(0)))


@lru_cache(maxsize=1)
def physical_cores() -> int:
    """Return the number of physical cores that this process may use, 1 or more.

    Two hyper-threads share one set of multipliers, so that a second thread on a core makes a convolution no
    faster and its latency less steady. A container's CPU limit counts too.
    """
    cores = set()
    for cpu in available_cpus():
        topology = f"/sys/devices/system/cpu/cpu{cpu}/topology"
        core = (_read(f"{topology}/physical_package_id"), _read(f"{topology}/core_id"))
        cores.add(core if core[1] else ("", str(cpu)))
    quota = _cgroup_quota()
    return max(1, len(cores) if quota is None else min(len(cores), int(quota)))


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """Return the CPU's feature flags as the kernel names them ("avx2", "avx512_vnni", "asimddp")."""
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def is_x86() -> bool:
    """Tell whether this is an x86-64 machine."""
    return platform.machine() in ("x86_64", "AMD64")


def has_int8_dot_product() -> bool:
    """Tell whether the CPU multiplies uint8 by int8 into int32 in one exact instruction.

    Without it (AVX2's vpmaddubsw) pairs of products saturate at 16 bits, and an INT8 network gives other
    answers than those that were scored:
    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "When and why do I need to
    try U8U8".
    """
    return bool(cpu_flags() & {"avx512_vnni", "avx_vnni"})


def saturates_int8() -> bool:
    """Tell whether INT8 graphs for x86 may saturate here: x86 without the exact instruction."""
    return is_x86() and not has_int8_dot_product()


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU: name, compute capability such as (8, 7), memory in MiB."""

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory_mib: int


@dataclass(frozen=True)
class Cuda:
    """What libcuda says: GPUs, the CUDA version the driver supports, why there is no GPU ("" if there is)."""

    gpus: tuple[Gpu, ...]
    version: str
    reason: str


@lru_cache(maxsize=1)
def cuda() -> Cuda:
    """Ask libcuda for GPUs.

    It is the only honest probe: packages list their CUDA providers on machines that have no driver. No
    context is made, so that nothing is allocated on a GPU.
    """
    try:
        lib = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Cuda((), "", "no NVIDIA driver (libcuda.so.1 is not on this machine)")
    status = lib.cuInit(0)
    if status != 0:
        return Cuda((), "", f"the NVIDIA driver does not start (cuInit returned {status})")
    number = ctypes.c_int()
    lib.cuDriverGetVersion(ctypes.byref(number))
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    count = ctypes.c_int()
    if lib.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return Cuda((), version, "the NVIDIA driver finds no GPU")
    return Cuda(tuple(_gpu(lib, index) for index in range(count.value)), version, "")


def _gpu(lib: ctypes.CDLL, index: int) -> Gpu:
    device, major, minor, size = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    lib.cuDeviceGet(ctypes.byref(device), index)
    lib.cuDeviceGetName(name, len(name), device)
    lib.cuDeviceGetAttribute(ctypes.byref(major), 75, device)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    lib.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
    lib.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    return Gpu(index, name.value.decode(errors="replace"), (major.value, minor.value), size.value >> 20)
