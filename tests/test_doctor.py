"""What `tledge doctor` finds, on this machine and on made-up ones."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tledge import doctor
from tledge.cuda import compiler
from tledge.errors import MachineError
from tledge.preprocess import kernel_check
from tledge.runtime import jetson, machine

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


@pytest.fixture
def installed(monkeypatch):
    """Make exactly these packages look installed: package -> version."""
    packages: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in packages:
            raise metadata.PackageNotFoundError(name)
        return packages[name]

    monkeypatch.setattr(metadata, "version", version)
    return packages


def test_the_report_of_this_machine_is_json_and_its_text_has_a_line_each():
    found = doctor.report()
    json.dumps(found, allow_nan=False)
    lines = doctor.text(found).splitlines()
    for name in (*found["backends"], *found["extras"]):
        assert any(re.match(rf"  (yes|no ) {name} ", line) for line in lines), name
    assert found["system"]["cores"] >= 1
    assert found["system"]["memory_mib"] > found["system"]["memory_available_mib"] > 0


def test_nothing_heavy_is_imported():
    code = (
        "import sys\nfrom tledge import doctor\ndoctor.text(doctor.report())\n"
        "heavy = {'torch', 'onnx', 'openvino', 'tensorrt', 'timm', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_extras_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, packages in doctor.EXTRAS.items():
        declared = {re.split(r"[<>=;\[ ]", line, maxsplit=1)[0] for line in project[name]} - {"tledge"}
        assert {package for alternatives in packages for package in alternatives.split("|")} == declared, name


def test_a_missing_package_says_what_to_install(installed):
    installed["onnx"] = "1.17"
    found = doctor.report()
    extra = found["extras"]["onnx"]
    assert (extra["complete"], extra["missing"]) == (False, ["onnxruntime-gpu"])
    assert extra["packages"] == {"onnx": "1.17", "onnxruntime-gpu": None}
    assert 'missing: onnxruntime-gpu; pip install "tledge[onnx]"' in doctor.text(found)
    installed["onnxruntime"] = "1.20"
    assert doctor.report()["extras"]["onnx"]["complete"]


def test_both_runtimes_at_once_is_a_warning(installed):
    installed.update({"onnxruntime": "1.20", "onnxruntime-gpu": "1.20"})
    assert "both installed" in doctor.text(doctor.report())
    del installed["onnxruntime"]
    assert "both installed" not in doctor.text(doctor.report())


def test_tensorrt_is_found_by_its_package(installed):
    assert doctor.report()["tensorrt"] is None
    installed["tensorrt-cu13"] = "10.13.3"
    assert doctor.report()["tensorrt"] == "tensorrt-cu13 10.13.3"


def test_kernels_that_are_missing_or_inexact_are_said(monkeypatch):
    def missing():
        raise MachineError("the kernels are missing", hint="build them")

    monkeypatch.setattr(kernel_check, "check", missing)
    assert "The preprocessing kernels do not work: the kernels are missing: build them." in "\n".join(
        doctor.report()["warnings"]
    )
    monkeypatch.setattr(
        kernel_check,
        "check",
        lambda: kernel_check.KernelCheck("avx2", 1, jpeg=True, exact=False, milliseconds=1.0),
    )
    assert "other bytes than the reference" in doctor.text(doctor.report())


def test_a_gpu_is_described(monkeypatch):
    gpu = machine.Gpu(0, "Orin", (8, 7), 15655)
    monkeypatch.setattr(machine, "cuda", lambda: machine.Cuda((gpu,), "12.6", ""))
    nvcc = compiler.Compiler("nvcc", "/usr/bin/nvcc", "12.6")
    monkeypatch.setattr(compiler, "compilers", lambda: (nvcc,))
    found = doctor.report()
    assert found["gpu"] == {
        "gpus": [{"name": "Orin", "sm": "87", "memory_mib": 15655}],
        "cuda": "12.6",
        "compiler": "nvcc 12.6",
        "reason": None,
    }
    said = "GPU: Orin (sm_87, 15.3 GiB), driver for CUDA 12.6, kernels compiled by nvcc 12.6"
    assert said in doctor.text(found)


def test_a_gpu_without_a_compiler_for_it_is_warned_of(monkeypatch):
    gpu = machine.Gpu(0, "Orin", (8, 7), 15655)
    monkeypatch.setattr(machine, "cuda", lambda: machine.Cuda((gpu,), "12.6", ""))
    monkeypatch.setattr(compiler, "compilers", lambda: (compiler.Compiler("nvcc", "/usr/bin/nvcc", "13.0"),))
    found = doctor.report()
    assert found["gpu"]["compiler"] is None
    assert any("CUDA kernels cannot be compiled here" in said for said in found["warnings"])


def test_a_jetson_whose_clocks_move_is_warned_of(monkeypatch):
    moving = jetson.Clock("GPU 17000000.gpu", 306.0, 306.0, 1300.5)
    board = jetson.Jetson("Orin Nano", "36.4.3", "6.1 or 6.2", "15W (0)", (moving,))
    monkeypatch.setattr(jetson, "this_jetson", lambda: board)
    found = doctor.report()
    said = doctor.text(found)
    assert "Jetson: Orin Nano, L4T 36.4.3, JetPack 6.1 or 6.2, power mode 15W (0)" in said
    assert "GPU 17000000.gpu 306 MHz (306 to 1300)" in said
    assert any("sudo jetson_clocks" in warning for warning in doctor.warnings(found))


def test_little_memory_and_disk_are_warned_of():
    found = doctor.report()
    found["system"] |= {"memory_available_mib": 500, "disk_free_mib": 100}
    said = "\n".join(doctor.warnings(found))
    assert "Only 500 MiB of memory" in said
    assert "Only 100 MiB are free" in said
