from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tledge.cuda import compiler
from tledge.cuda.compiler import Compiler, compile_kernels, find_compiler
from tledge.errors import MachineError, TledgeError, UsageError

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "tests" / "standins" / "cuda_driver" / "kernels.cu"
INCLUDE = [ROOT / "kernels"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "tledge" / "kernels"


@pytest.fixture(params=["nvcc", "nvrtc"])
def using(request) -> str:
    try:
        find_compiler(request.param)
    except MachineError as error:
        pytest.skip(str(error))
    return request.param


@pytest.fixture
def installed(monkeypatch):
    """Set which compilers are there, as (kind, release)."""

    def install(*found: tuple[str, str]) -> None:
        ours = tuple(Compiler(kind, f"/somewhere/{kind}", release) for kind, release in found)
        nvcc = next((one for one in ours if one.kind == "nvcc"), None)
        monkeypatch.setattr(compiler, "_find_nvcc", lambda: nvcc)
        monkeypatch.setattr(compiler, "_find_nvrtc", lambda: [one for one in ours if one.kind == "nvrtc"])

    compiler.compilers.cache_clear()
    yield install
    compiler.compilers.cache_clear()


def test_kernels_are_compiled_once(using, cache, monkeypatch):
    cubin = compile_kernels(KERNELS, "sm87", include=INCLUDE, using=using)
    assert cubin.startswith(b"\x7fELF")
    assert b"resample_rows" in cubin
    assert [path.read_bytes() for path in cache.iterdir()] == [cubin]
    monkeypatch.setattr(compiler, f"_{using}", None)  # it must not be called again
    assert compile_kernels(KERNELS, "sm87", include=INCLUDE, using=using) == cubin


def test_all_that_matters_is_in_the_key(using, cache, tmp_path):
    source, header = tmp_path / "a.cu", tmp_path / "include" / "a.h"
    header.parent.mkdir()
    source.write_text('#include "a.h"\nextern "C" __global__ void a(float* x) { *x = VALUE; }\n')
    for step, (value, architecture) in enumerate([(1, "sm87"), (2, "sm87"), (2, "sm90"), (2, "sm90")]):
        header.write_text(f"#define VALUE {value}\n")
        compile_kernels(source, architecture, include=[header.parent], using=using)
        assert len(list(cache.iterdir())) == min(step + 1, 3)


def test_no_multiplication_is_fused_with_an_addition(using, tmp_path, monkeypatch):
    if using == "nvcc":
        ptx = tmp_path / "k.ptx"
        nvcc = find_compiler("nvcc").path
        options = compiler._options("sm87", INCLUDE)
        subprocess.run([nvcc, "-ptx", "-o", str(ptx), *options, str(KERNELS)], check=True)
        text = ptx.read_text()
        assert "mul.rn.f32" in text
        assert "fma" not in text
    assert "-fmad=false" in compiler._options("sm87", INCLUDE)


def test_a_fault_of_the_source_is_shown(using, tmp_path):
    source = tmp_path / "wrong.cu"
    source.write_text('extern "C" __global__ void a() { nonsense; }\n')
    with pytest.raises(TledgeError, match=r"refuses wrong\.cu:(.|\n)*nonsense"):
        compile_kernels(source, "sm87", using=using)


def test_a_gpu_that_the_compiler_does_not_know_is_named(using):
    with pytest.raises(MachineError, match="does not compile for sm_20"):
        compile_kernels(KERNELS, "sm20", include=INCLUDE, using=using)


def test_a_cache_that_cannot_be_written_is_done_without(using, cache):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    assert compile_kernels(KERNELS, "sm87", include=INCLUDE, using=using).startswith(b"\x7fELF")


def test_without_a_compiler_it_says_what_to_install(installed):
    installed()
    with pytest.raises(MachineError, match="no compiler for CUDA kernels") as caught:
        find_compiler("auto")
    assert "nvidia-cuda-nvrtc" in caught.value.hint
    with pytest.raises(UsageError, match="'gcc'"):
        find_compiler("gcc")


def test_a_toolkit_comes_first_then_the_newest_nvrtc(installed):
    installed(("nvrtc", "12.6"), ("nvrtc", "13.10"), ("nvrtc", "13.2"))
    assert find_compiler("auto").release == "13.10"
    compiler.compilers.cache_clear()
    installed(("nvrtc", "13.0"), ("nvcc", "12.6"))
    assert find_compiler("auto").kind == "nvcc"
    assert find_compiler("nvrtc").kind == "nvrtc"


def test_a_compiler_that_is_newer_than_the_driver_is_passed_over(installed):
    installed(("nvcc", "13.0"), ("nvrtc", "13.0"), ("nvrtc", "12.6"))
    assert find_compiler("auto", cuda=13).kind == "nvcc"
    assert find_compiler("auto", cuda=12) == Compiler("nvrtc", "/somewhere/nvrtc", "12.6")
    with pytest.raises(MachineError, match=r"nvcc 13\.0 is newer than the driver") as caught:
        find_compiler("auto", cuda=11)
    assert "of the driver's CUDA" in caught.value.hint


@pytest.mark.parametrize("code", ["import tledge.cuda", "from tledge.cuda.compiler import compile_kernels"])
def test_nothing_of_cuda_is_loaded_before_it_is_used(code):
    script = f"{code}\nimport sys; print('pycuda' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == "False\n"


def test_without_pycuda_or_a_driver_it_says_so():
    script = (
        "from tledge import cuda\nfrom tledge.errors import MachineError\n"
        "try: cuda.Gpu(); print('a GPU')\nexcept MachineError as error: print(error, error.hint)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.startswith(
        ("pycuda is not installed", "there is no NVIDIA driver", "a GPU", "the NVIDIA driver")
    )
