"""TensorRT as a backend: an engine of the bundle on the GPU, `tensorrt` or `tensorrt-rtx`.

The plan is deserialised once, and only if its manifest fits this machine and its hash is the manifest's. What
happens to a frame then is `tledge.runtime.pipeline`. The same code runs both libraries, 10.3 to 11.4.

No GPU was at hand when this was written: each name of TensorRT's API was looked up in the bindings of each
release, and nothing here was run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tledge.bundle import Bundle, probabilities
from tledge.cuda import Gpu
from tledge.cuda.compiler import find_compiler
from tledge.errors import BundleError, InputError, MachineError, TledgeError
from tledge.preprocess import Spec
from tledge.runtime.engine_manifest import EngineManifest, EnginePort, engine_for, read_plan
from tledge.runtime.lane import Context
from tledge.runtime.pipeline import LANES, Pipeline
from tledge.runtime.place import this_machine
from tledge.runtime.session import Port, Session, check_ports
from tledge.runtime.tensorrt_library import Library, load
from tledge.runtime.tensorrt_log import MEMORY, logger

NUMPY_TYPES = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "UINT8": "uint8"}


def open_engine(bundle: Bundle, backend: str, variant: str, *, threads: int) -> Session:
    """Open the engine of `variant` for `backend` that fits this machine, and warm it up.

    Raises:
        BundleError: the bundle has no such engine, or none that fits: in what, and how to build it anew.
        MachineError: the library, pycuda or the GPU is missing, or there is not enough memory.
    """
    library = load(backend)
    manifest = engine_here(bundle, library, variant)
    plan = read_plan(bundle, manifest.name, this_machine(), library.version)
    temperature = probabilities.read(bundle).temperature(variant)
    return open_plan(library, manifest, plan, spec=bundle.spec, threads=threads, temperature=temperature)


def engine_here(bundle: Bundle, library: Library, variant: str) -> EngineManifest:
    """Return the bundle's engine of `variant` that `open_engine` opens, or says of why it does not fit."""
    return engine_for(bundle, library.backend, variant, this_machine(), library.version)


def open_plan(
    library: Library,
    manifest: EngineManifest,
    plan: bytes,
    *,
    spec: Spec,
    threads: int,
    temperature: float = 1.0,
) -> Session:
    """Return a session of a plan that is known to fit and to be the manifest's.

    Args:
        library: the one that is to run it.
        manifest: what the plan is.
        plan: its bytes.
        spec: how images become its input.
        threads: how many threads of the host preprocess what the GPU does not.
        temperature: what logits are divided by for the probabilities.

    Raises:
        MachineError: no GPU, or not enough memory on it; what was allocated is given back.
        BundleError: the library refuses the plan.
    """
    image, logits = _ports(manifest, spec.shape)
    gpu = Gpu()
    try:
        with gpu.current():
            engine = TensorRTEngine(library, manifest, plan, image, logits)
    except BaseException:
        gpu.close()
        raise
    note = _stays_on_the_host(gpu, image, spec)
    try:
        pipeline = Pipeline(gpu, engine, spec=None if note else spec, temperature=temperature)
    except MachineError as error:
        if "out of memory" not in error.message:
            raise
        raise no_memory(manifest, error.message) from error
    return Session(
        backend=manifest.backend,
        variant=manifest.variant,
        device=f"cuda:{gpu.index}",
        threads=threads,
        input_name=image.name,
        input_shape=image.shape,
        input_dtype=image.dtype,
        classes=int(logits.shape[1] or 0),
        infer=pipeline.infer,
        largest=manifest.batch[2],
        lend=pipeline.lane,
        lanes=LANES,
        takes_pixels=not note,
        notes=(f"images are preprocessed on the processor, not on the GPU: {note}",) if note else (),
        release=pipeline.close,
    )


def _stays_on_the_host(gpu: Gpu, image: Port, spec: Spec) -> str:
    """Say why the GPU does not preprocess for this engine, or return ""."""
    if (image.dtype, image.shape[1:]) != (spec.dtype, spec.shape):
        return f"the engine takes {image}, which is not what the bundle's specification makes"
    try:
        find_compiler(cuda=gpu.cuda)
    except MachineError as error:
        return f"{error.message}. {error.hint}"
    return ""


class TensorRTEngine:
    """A deserialised plan; see `tledge.runtime.lane.Engine`."""

    def __init__(
        self, library: Library, manifest: EngineManifest, plan: bytes, image: Port, logits: Port
    ) -> None:
        """Deserialise the plan into the current context of the thread."""
        trt = library.module
        log, messages = logger(trt)
        messages.entries.clear()
        self.name, self.batch = manifest.name, manifest.batch
        self.image, self.logits = image, logits
        self._library, self._manifest, self._messages = library, manifest, messages
        runtime = trt.Runtime(log)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self._refused("opens no engine from the plan")
        self._runtime: Any = runtime  # must outlive its engine
        self._engine: Any = engine
        self.scratch = int(engine.device_memory_size_v2)

    def context(self, batch: int, images: int, logits: int, scratch: int, stream: int) -> Context:
        """Return a context for a batch size and addresses; the CUstream `stream` takes its set-up."""
        context = self._new_context()
        if context is None:
            raise self._refused("makes no execution context")
        if self.scratch:
            context.set_device_memory(scratch, self.scratch)
        # A first context has the profile; whether a further one has it too differs between releases.
        if context.active_optimization_profile != 0:
            context.set_optimization_profile_async(0, stream)
        shape = (batch, *(int(size or 1) for size in self.image.shape[1:]))
        if not (
            context.set_input_shape(self.image.name, shape)
            and context.set_tensor_address(self.image.name, images)
            and context.set_tensor_address(self.logits.name, logits)
        ):
            raise self._refused(f"does not take {batch} images")
        return _Ready(context, self)

    def free(self) -> None:
        """Let the engine go, then the runtime that made it, while the GPU's context is there."""
        self._engine = None
        self._runtime = None

    def _new_context(self) -> Any:
        trt, engine = self._library.module, self._engine
        # The memory of activations is ours: the contexts of a lane, which never run at once, share it.
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._library.backend == "tensorrt":
            return engine.create_execution_context(strategy)
        runtime_config = engine.create_runtime_config()
        runtime_config.set_execution_context_allocation_strategy(strategy)
        # TensorRT for RTX compiles kernels for a shape beside the first inferences: here it shall be ready
        # before the graph is recorded.
        runtime_config.dynamic_shapes_kernel_specialization_strategy = (
            trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        return engine.create_execution_context(runtime_config)

    def _refused(self, what: str) -> TledgeError:
        """Return the error for what the library did not do, with its own words."""
        reasons = "; ".join(self._messages.errors()) or "it gives no reason"
        if MEMORY.search(reasons):
            return no_memory(self._manifest, reasons)
        return BundleError(
            f"{self._library.title} {what} of {self.name}, although its manifest fits: {reasons}",
            hint="Build the engine anew: tledge build-engine with --rebuild.",
            path=self._manifest.plan_name,
        )


class _Ready:
    """An execution context with shapes and addresses set."""

    def __init__(self, context: Any, engine: TensorRTEngine) -> None:
        self._context = context
        self._owner = engine

    def enqueue(self, stream: int) -> None:
        """Give one inference to the stream."""
        if not self._context.execute_async_v3(stream):
            raise self._owner._refused("does not run")


def no_memory(manifest: EngineManifest, said: str) -> MachineError:
    """Return the error for an engine that does not fit into the GPU's memory, with what would."""
    largest = manifest.batch[2]
    smaller = f"a smaller largest batch than {largest} (--batch, with --rebuild), " if largest > 1 else ""
    return MachineError(
        f"there is not enough memory on the GPU to run the engine {manifest.name}: {said}",
        hint=f"Build it with {smaller}a smaller --workspace, or close what else uses the GPU "
        "(on a Jetson: what else uses memory).",
    )


def _ports(manifest: EngineManifest, shape: tuple[int, ...]) -> tuple[Port, Port]:
    """Return the ports of the image and of the logits, with what is dynamic but for the batch filled in."""

    def port(found: EnginePort) -> Port:
        sizes = [None if size == -1 else size for size in found.shape]
        return Port(found.name, NUMPY_TYPES.get(found.dtype, found.dtype), tuple(sizes))

    image, logits = check_ports(
        Path(manifest.plan_name), list(map(port, manifest.inputs)), list(map(port, manifest.outputs))
    )
    if logits.shape[1] is None:
        raise InputError(
            f"the engine {manifest.name} does not say how many classes it has ({logits})",
            hint="Export the network with a fixed number of classes.",
        )
    smallest, _, largest = manifest.batch
    filled = (
        smallest if smallest == largest else None,
        *(a or b for a, b in zip(image.shape[1:], shape, strict=True)),
    )
    return Port(image.name, image.dtype, filled), logits
