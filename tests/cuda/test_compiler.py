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
    with pytest.raises(MachineError, match="does not compile for sm20"):
        compile_kernels(KERNELS, "sm20", include=INCLUDE, using=using)


def test_a_cache_that_cannot_be_written_is_done_without(using, cache):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    assert compile_kernels(KERNELS, "sm87", include=INCLUDE, using=using).startswith(b"\x7fELF")


def test_without_a_compiler_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(compiler, "_find_nvcc", lambda: None)
    monkeypatch.setattr(compiler, "_find_nvrtc", lambda: None)
    with pytest.raises(MachineError, match="no compiler for CUDA kernels") as caught:
        compiler.find_compiler.__wrapped__("auto")
    assert "nvidia-cuda-nvrtc" in caught.value.hint
    with pytest.raises(UsageError, match="'gcc'"):
        compiler.find_compiler.__wrapped__("gcc")


def test_nvrtc_is_taken_where_there_is_no_toolkit(monkeypatch):
    found = Compiler("nvrtc", "libnvrtc.so.12", "12.6")
    monkeypatch.setattr(compiler, "_find_nvcc", lambda: None)
    monkeypatch.setattr(compiler, "_find_nvrtc", lambda: found)
    assert compiler.find_compiler.__wrapped__("auto") == found


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
