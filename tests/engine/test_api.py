"""Every name of TensorRT's API that tledge uses exists in each release that tledge builds with.

The real Python bindings of each release are loaded over a stub of the library (tests/standins/tensorrt_stub).
They are small wheels (1 to 2 MB), fetched once and kept in pytest's cache.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUB = ROOT / "tests" / "standins" / "tensorrt_stub" / "stub.c"
RELEASES = {
    "10.3.0": "tensorrt_cu12_bindings==10.3.0",  # JetPack 6
    "10.13.3.9": "tensorrt_cu12_bindings==10.13.3.9",  # JetPack 7.1
    "10.16.1.11": "tensorrt_cu12_bindings==10.16.1.11",  # JetPack 7.2
    "11.4.0.106": "tensorrt_cu13_bindings==11.4.0.106",  # servers; JetPack 7.2.2 has 11.4.1
}
# What a variable of each name is in these files: the class whose attributes are looked up.
CLASSES = {
    "trt": "",
    "module": "",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "tensor": "ITensor",
    "first": "ParserError",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "cache": "ITimingCache",
    "runtime": "Runtime",
    "context": "IExecutionContext",
    "runtime_config": "IRuntimeConfig",
}
FILES = ("engine/builder", "engine/timing", "engine/failure", "runtime/tensorrt", "runtime/tensorrt_log")
# Used only where the backend is TensorRT for RTX, or asked for by getattr with a default.
RTX_ONLY = {
    "ComputeCapability",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
    "DynamicShapesKernelSpecializationStrategy",
    "DynamicShapesKernelSpecializationStrategy.EAGER",
    "ICudaEngine.create_runtime_config",
    "IRuntimeConfig.set_execution_context_allocation_strategy",
    "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy",
}


def used() -> set[str]:
    """Return the names that the sources use: "Builder.create_network", "MemoryPoolType.WORKSPACE"."""
    found = set()
    for file in FILES:
        tree = ast.parse((ROOT / "tledge" / f"{file}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                chain = list(_chain(node))
                # `library.module.X` is the module's X.
                if chain[:2] == ["library", "module"]:
                    chain = chain[1:]
                # `self._context.X` is what `context.X` is.
                if chain[:1] == ["self"] and len(chain) > 2:
                    chain = [chain[1].removeprefix("_"), *chain[2:]]
                if len(chain) > 1 and chain[0] in CLASSES:
                    owner = CLASSES[chain[0]]
                    found.add(".".join([owner, chain[1]] if owner else chain[1:3]))
    return found


def _chain(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Attribute):
        yield from _chain(node.value)
        yield node.attr
    elif isinstance(node, ast.Name):
        yield node.id


def missing(names: set[str], module: object) -> list[str]:
    """Return those of `names` that `module` lacks."""

    def there(name: str) -> bool:
        value = module
        for part in name.split("."):
            if part == "__members__":
                return hasattr(value, part)
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True

    return sorted(name for name in names if not there(name))


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the stub under the names that the bindings of TensorRT 10 and 11 ask for; return the folder."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the stub of TensorRT with")
    folder = tmp_path_factory.mktemp("tensorrt_stub")
    for major in (10, 11):
        for library in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
            out = folder / f"lib{library}.so.{major}"
            subprocess.run([compiler, "-shared", "-fPIC", "-o", str(out), str(STUB)], check=True)
    return folder


@pytest.fixture(params=RELEASES, scope="session")
def bindings(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Path:
    """Return the folder that holds the Python bindings of one release; skip if they cannot be had."""
    release = request.param
    version = f"{sys.version_info.major}{sys.version_info.minor}"
    folder = Path(pytestconfig.cache.mkdir("tensorrt_bindings")) / f"{release}-cp{version}"
    if not folder.exists():
        # Installed beside its place and renamed: several workers may come here at once.
        fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--retries", "1", "--timeout", "10", "--target", str(fresh), RELEASES[release]]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if result.returncode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            last = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
            pytest.skip(f"the bindings of TensorRT {release} cannot be had: {last}")
        (fresh / "tensorrt").mkdir()
        names = "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"
        (fresh / "tensorrt" / "__init__.py").write_text(names)
        try:
            fresh.rename(folder)
        except OSError:  # another worker was first
            shutil.rmtree(fresh)
    return folder


def run(bindings: Path, stubs: Path, script: str) -> str:
    """Run the script where `tensorrt` is these bindings over the stub."""
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(stubs),
        "PYTHONPATH": os.pathsep.join([str(bindings), str(ROOT)]),
    }
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_search_for_names_finds_them() -> None:
    names = used()
    assert {
        "ILogger",
        "IProgressMonitor",
        "Builder.create_network",
        "MemoryPoolType.WORKSPACE",
        "IBuilderConfig.progress_monitor",
        "OnnxParser.supports_model_v2",
        "EngineInspector.get_engine_information",
        "ITimingCache.serialize",
        "Runtime.deserialize_cuda_engine",
        "ICudaEngine.device_memory_size_v2",
        "ICudaEngine.create_execution_context",
        "ExecutionContextAllocationStrategy.USER_MANAGED",
        "IExecutionContext.execute_async_v3",
        "IExecutionContext.set_tensor_address",
        "IExecutionContext.set_device_memory",
    } <= names
    assert {name.removesuffix(".__members__") for name in names} >= RTX_ONLY
    gone = {
        "BuilderFlag",
        "IInt8EntropyCalibrator2",
        "Builder.platform_has_fast_int8",
        "OnnxParser.supports_model",
    }
    assert not gone & names


@pytest.mark.tensorrt
def test_every_name_exists_in_the_release(bindings: Path, stubs: Path) -> None:
    names = sorted(name for name in used() if name.removesuffix(".__members__") not in RTX_ONLY)
    script = (
        "import json, sys, tensorrt_bindings\n"
        "from tests.engine.test_api import missing\n"
        f"print(json.dumps(missing(set({names!r}), tensorrt_bindings)))"
    )
    assert json.loads(run(bindings, stubs, script)) == []
    # The look-up would find a name that is gone: TensorRT 11 has no precision flags.
    gone = run(bindings, stubs, script.replace(repr(names), "['BuilderFlag.FP16', 'Builder.nothing']"))
    assert json.loads(gone) == (
        ["Builder.nothing"] if bindings.name.startswith("10") else ["Builder.nothing", "BuilderFlag.FP16"]
    )


@pytest.mark.tensorrt
def test_the_library_loads_and_its_classes_can_be_inherited_from(bindings: Path, stubs: Path) -> None:
    script = (
        "from tledge.engine import builder\n"
        "from tledge.runtime import tensorrt_library as library, tensorrt_log as log\n"
        "found = library.load('tensorrt')\n"
        "log.logger(found.module)\n"
        "monitor = builder._monitor(found.module, lambda *step: step[0] == 'go on')\n"
        "monitor.phase_start('go on', None, 2)\n"
        "assert monitor.step_complete('go on', 0) and not monitor.stopped\n"
        "assert not monitor.step_complete('stop', 0) and monitor.stopped\n"
        "print(found.title, *found.newest, builder.network_flags(found.module))"
    )
    words = run(bindings, stubs, script).split()
    version, opset, flags = words[1], int(words[2]), int(words[4])
    assert bindings.name.startswith(version)
    assert opset >= 20
    # The bit moved: a number written out would ask TensorRT 11 for something else.
    assert flags == (1 if version.startswith("11") else 2)


@pytest.mark.tensorrt
def test_every_name_exists_in_tensorrt_for_rtx(rtx) -> None:
    unnamed = {name for name in used() if name != "NetworkDefinitionCreationFlag.STRONGLY_TYPED"}
    assert missing(unnamed, rtx.module) == []
