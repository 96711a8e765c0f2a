"""tledge.cuda on the real pycuda over the stand-in for the driver: see tests/standins/cuda_driver/driver.c.

The driver's place in the library path is decided before a process starts, so the cases run in processes of
their own: on_standin*.py as test runs, and what spoils a process as scripts.
"""

from __future__ import annotations

import pytest

from tests.cuda import standin
from tests.runtime import bundles
from tledge.runtime import machine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> dict[str, str]:
    """Return the environment in which pycuda finds the stand-in."""
    return standin.environment(tmp_path_factory.mktemp("cuda_driver"), pytestconfig)


@pytest.mark.parametrize("file", ["on_standin.py", "on_standin_preprocessor.py"])
def test_the_cuda_layer_on_the_standin(environment, file):
    standin.passes(environment, f"tests/cuda/{file}")


FAILS = """
from tledge import cuda
from tledge.errors import TledgeError
try:
    {code}
except TledgeError as error:
    print(error.exit_code, error, error.hint)
"""


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ({"STANDIN_NO_GPU": "1"}, "3 the NVIDIA driver finds no GPU"),
        ({"STANDIN_NO_INIT": "1"}, "3 the NVIDIA driver does not start"),
        pytest.param(
            {"LD_LIBRARY_PATH": ""},
            "3 there is no NVIDIA driver on this machine",
            marks=pytest.mark.skipif(
                "no NVIDIA driver" not in machine.cuda().reason, reason="there is a driver"
            ),
        ),
    ],
)
def test_a_machine_that_has_no_gpu_is_told_so(environment, variable, said):
    result = standin.python(environment, "-c", FAILS.format(code="cuda.Gpu()"), **variable)
    assert result.stdout.startswith(said), result.stdout + result.stderr
    assert result.returncode == 0


def test_preprocessing_on_no_gpu_says_so(environment, tmp_path):
    bundle = bundles.make(tmp_path / "b.tledge", ("fp32",), ("fp32@onnxruntime",))
    (tmp_path / "a.png").write_bytes(bundles.png(1))
    words = [bundle.path, tmp_path / "a.png", "--with", "cuda", "-o", tmp_path / "x.npy"]
    result = standin.python(environment, "-m", "tledge", "preprocess", *map(str, words), STANDIN_NO_GPU="1")
    assert result.returncode == 3
    assert "the NVIDIA driver finds no GPU" in result.stderr
    assert not (tmp_path / "x.npy").exists()


LOST = """
from tledge import cuda
from tledge.errors import MachineError
gpu = cuda.Gpu()
kernel = gpu.load(b"\\x7fELF image").kernel("fault", "")
stream = gpu.stream()
with gpu.current():
    kernel.launch(stream, (1, 1, 1), (1, 1, 1))
    for attempt in (stream.synchronise, lambda: gpu.allocate(1)):
        try:
            attempt()
        except MachineError as error:
            print(error)
"""


def test_a_lost_context_is_named_and_ends_no_process_badly(environment):
    result = standin.python(environment, "-c", LOST)
    lines = result.stdout.splitlines()
    assert len(lines) == 2, result.stdout + result.stderr
    assert all("the GPU's context is lost" in line for line in lines)
    assert result.returncode == 0, result.stderr


def test_a_process_that_forgets_to_close_ends_well(environment):
    code = "from tledge import cuda; gpu = cuda.Gpu(); buffer = gpu.allocate(8); stream = gpu.stream()"
    result = standin.python(environment, "-c", code)
    assert (result.returncode, result.stderr) == (0, "")
