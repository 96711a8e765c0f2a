"""A module `tensorrt` whose plans are ONNX files, run by ONNX Runtime in the stream, for tests.

It has the names that `tledge.runtime.tensorrt` uses, and is as strict as TensorRT is documented to be; that
the real ones have the same names is shown by tests/engine/test_api.py.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

from tests.runtime.host_engine import HostEngine

VERSION = "10.3.0"


class ILogger:
    def __init__(self) -> None:
        self.last: ILogger = self


class Runtime:
    def __init__(self, log: ILogger) -> None:
        self.log = log

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        if plan.startswith(b"too large"):
            self.log.log(1, "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)")
            return None
        if plan.startswith(b"no plan"):
            self.log.log(1, "the plan is corrupt")
            return None
        return Engine(plan)


class Engine:
    device_memory_size_v2 = 4096

    def __init__(self, plan: bytes) -> None:
        self.host = HostEngine(plan, (1, 4, 6))

    def create_execution_context(self, strategy: str) -> Context:
        assert strategy == "user managed"
        return Context(self.host)


class Context:
    active_optimization_profile = -1

    def __init__(self, host: HostEngine) -> None:
        self.host = host
        self.addresses: dict[str, int] = {}
        self.batch = self.scratch = 0

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        assert stream
        self.active_optimization_profile = index
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 256 == 0
        assert size >= Engine.device_memory_size_v2
        self.scratch = memory

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.active_optimization_profile == 0
        self.batch = shape[0]
        return name == self.host.image.name and self.host.batch[0] <= shape[0] <= self.host.batch[2]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return name in (self.host.image.name, self.host.logits.name)

    def execute_async_v3(self, stream: int) -> bool:
        images, logits = self.addresses[self.host.image.name], self.addresses[self.host.logits.name]
        self.work = self.host.context(self.batch, images, logits, self.scratch, stream)
        self.work.enqueue(stream)
        KEPT.append(self.work)  # a recorded graph calls it later
        return True


KEPT: list[object] = []


def install(monkeypatch) -> None:
    """Let `import tensorrt` find this until the test ends."""
    module = ModuleType("tensorrt")
    module.__spec__ = ModuleSpec("tensorrt", None)
    module.__version__ = VERSION
    module.ILogger, module.Runtime = ILogger, Runtime
    module.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user managed")
    monkeypatch.setitem(sys.modules, "tensorrt", module)
