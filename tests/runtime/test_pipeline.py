"""The pipeline, on the real pycuda over the stand-in for the driver, with ONNX Runtime as the engine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cuda import standin
from tledge.runtime.lane import ladder


@given(st.lists(st.integers(1, 300), min_size=3, max_size=3).map(sorted))
def test_each_batch_has_a_graph_of_less_than_twice_its_size(batch):
    smallest, _, largest = batch
    sizes = ladder(tuple(batch))
    assert list(sizes) == sorted(set(sizes))
    assert set(batch) <= set(sizes)
    assert (sizes[0], sizes[-1]) == (smallest, largest)
    for count in range(smallest, largest + 1):
        assert next(size for size in sizes if size >= count) < 2 * count


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> dict[str, str]:
    return standin.environment(tmp_path_factory.mktemp("cuda_driver"), pytestconfig)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["on_standin.py", "on_standin_engines.py"])
def test_the_pipeline_on_the_standin(environment, file):
    standin.passes(environment, f"tests/runtime/{file}")


FORGOTTEN = """
import threading, numpy as np
from tests.runtime import graphs
from tests.runtime.host_engine import HostEngine
from tledge.cuda import Gpu
from tledge.runtime.pipeline import Pipeline
pipeline = Pipeline(Gpu(), HostEngine(graphs.classifier(), (1, 2, 2)))
held = [pipeline]
thread = threading.Thread(target=lambda: held.pop().infer(np.zeros((1, 3, 16, 16), np.float32)))
thread.start()
thread.join()
{last}
"""


@pytest.mark.slow
@pytest.mark.parametrize("last", ["", "del pipeline"])
def test_a_pipeline_that_nobody_closes_ends_well(environment, last):
    result = standin.python(environment, "-c", FORGOTTEN.format(last=last))
    assert (result.returncode, result.stderr) == (0, "")


LOST = """
import ctypes, numpy as np
from tests.runtime import graphs
from tests.runtime.host_engine import HostEngine
from tledge.cuda import Gpu
from tledge.errors import MachineError
from tledge.runtime import open_session
from tledge.runtime.pipeline import Pipeline
pipeline = Pipeline(Gpu(), HostEngine(graphs.classifier(), (1, 1, 1)))
x = np.zeros((1, 3, 16, 16), np.float32)
gpu = Gpu()
with gpu.current():
    gpu.load(b"\\x7fELF image").kernel("fault", "").launch(stream := gpu.stream(), (1, 1, 1), (1, 1, 1))
    try:
        stream.synchronise()
    except MachineError as error:
        print(error.exit_code)
for _ in range(2):
    try:
        pipeline.infer(x)
    except MachineError as error:
        print(error.exit_code, error)
pipeline.close()
print(open_session(graphs.classifier()).run(x).shape)
"""


@pytest.mark.slow
def test_a_lost_context_is_named_and_the_process_goes_on(environment):
    result = standin.python(environment, "-c", LOST)
    lines = result.stdout.splitlines()
    assert len(lines) == 4, result.stdout + result.stderr
    assert lines[0] == "3"
    assert all(line.startswith("3 the GPU's context is lost") for line in lines[1:3])
    assert lines[3] == "(1, 5)"
    assert result.returncode == 0, result.stderr
