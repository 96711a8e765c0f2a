"""An ONNX graph into an engine: one code path for TensorRT 10.3 to 11.4 and TensorRT for RTX.

Networks are strongly typed: which layer runs in which precision is written in the graph (explicit Q/DQ for
INT8, float16 tensors for FP16), and no precision flag or calibrator is used, because TensorRT 11 has neither.

This module runs in a process of its own; see `tledge.engine.process`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge.engine import layers, timing
from tledge.engine.failure import explain_build, explain_parse
from tledge.engine.graph import Graph, Node, check_versions, read_graph
from tledge.engine.settings import BuildSettings
from tledge.errors import InputError, MachineError, UsageError
from tledge.runtime.engine_manifest import EnginePort
from tledge.runtime.tensorrt_library import Library
from tledge.runtime.tensorrt_log import LAYERS, Messages, logger

# (name of the phase, its steps, steps done); returns False to stop the build.
Watch = Callable[[str, int, int], bool]


class Cancelled(Exception):
    """The build was stopped because its `watch` said so."""


@dataclass(frozen=True)
class Built:
    """What a build gives: the plan's bytes, its ports, its layers, what TensorRT warned of, and the time."""

    plan: bytes
    inputs: tuple[EnginePort, ...]
    outputs: tuple[EnginePort, ...]
    report: layers.Report
    warnings: tuple[str, ...]
    seconds: float


def build(library: Library, onnx: bytes, path: Path, settings: BuildSettings, watch: Watch) -> Built:
    """Build the engine of the ONNX file `onnx`; `path` is what messages call it.

    Args:
        library: TensorRT, as `tledge.runtime.tensorrt_library.load` gives it.
        onnx: The file's bytes.
        path: Its path, for messages.
        settings: What to build for.
        watch: Called at each step of the build; the build stops when it returns False.

    Raises:
        InputError: the file is no sound ONNX graph, or has what TensorRT cannot build.
        UsageError: the batch sizes or targets do not fit the graph or the library.
        MachineError: no GPU, or not enough memory.
        Cancelled: `watch` returned False.
    """
    started = time.monotonic()
    trt = library.module
    log, messages = logger(trt)
    messages.entries.clear()
    graph = read_graph(onnx, path)
    check_versions(graph, library, path)
    builder = trt.Builder(log)
    network = _parse(library, builder, onnx, graph, path)
    inputs, outputs = _ports(network)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the list of layers has types only then
    if settings.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
    _set_targets(library, config, settings.targets)
    _set_profile(builder, config, network, settings, path)
    cache = timing.attach(library, config)
    monitor = _monitor(trt, watch)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        if monitor.stopped:
            raise Cancelled
        raise explain_build(library, messages, settings, path)
    timing.keep(config, cache)
    data = bytes(plan)
    return Built(
        plan=data,
        inputs=inputs,
        outputs=outputs,
        report=_report(library, data, messages, graph),
        warnings=tuple(messages.warnings()),
        seconds=time.monotonic() - started,
    )


def network_flags(trt: Any) -> int:
    """Return the flags for `create_network` that ask for strong typing.

    The flag's place among the bits differs between releases, and newer ones, where every network is strongly
    typed, may drop its name: the module is asked, and no bit is written out.
    """
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse(library: Library, builder: Any, onnx: bytes, graph: Graph, path: Path) -> Any:
    """Return the parsed network, which is sure to have inputs, outputs and layers."""
    trt = library.module
    log, messages = logger(trt)
    network = builder.create_network(network_flags(trt))
    if network is None:
        raise MachineError(f"{library.title} makes no network: {'; '.join(messages.errors())}")
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise explain_parse(library, errors, _unsupported(trt, builder, onnx, graph), path)
    if not (network.num_inputs and network.num_outputs and network.num_layers):
        raise InputError(
            f"{library.title} reads from {path} a network of {network.num_inputs} inputs, "
            f"{network.num_layers} layers and {network.num_outputs} outputs",
            hint="Check the graph with onnx.checker.check_model, or export it again.",
            path=path,
        )
    return network


def _unsupported(trt: Any, builder: Any, onnx: bytes, graph: Graph) -> tuple[Node, ...]:
    """Return the nodes that are in no part of the graph that TensorRT could take."""
    log, _ = logger(trt)
    network = builder.create_network(
        network_flags(trt)
    )  # a name of its own: the parser does not keep it alive
    parser = trt.OnnxParser(network, log)
    parser.supports_model_v2(onnx)
    taken = {index for part in range(parser.num_subgraphs) for index in parser.get_subgraph_nodes(part)}
    return tuple(node for index, node in enumerate(graph.nodes) if index not in taken)


def _ports(network: Any) -> tuple[tuple[EnginePort, ...], tuple[EnginePort, ...]]:
    def port(tensor: Any) -> EnginePort:
        return EnginePort(tensor.name, tensor.dtype.name, tuple(tensor.shape))

    return (
        tuple(port(network.get_input(index)) for index in range(network.num_inputs)),
        tuple(port(network.get_output(index)) for index in range(network.num_outputs)),
    )


def _set_targets(library: Library, config: Any, targets: tuple[str, ...]) -> None:
    if not targets:
        return
    known = {
        name.lower(): value
        for name, value in library.module.ComputeCapability.__members__.items()
        if name.startswith("SM")
    }
    for target in targets:
        if target not in known:
            raise UsageError(
                f"{library.title} does not build for {target}",
                hint=f"It builds for {', '.join(known)}; a Jetson builds its engines itself, "
                "with --backend tensorrt.",
            )
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        if not config.set_compute_capability(known[target], index):
            raise UsageError(f"{library.title} refuses to build for {target}")


def _set_profile(builder: Any, config: Any, network: Any, settings: BuildSettings, path: Path) -> None:
    """Give the ranges of the dynamic dimensions; a graph of fixed shape needs none."""
    profile = builder.create_optimization_profile()
    dynamic = False
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if shape[:1] != (-1,) and settings.batch != (shape[0],) * 3:
            asked = ":".join(map(str, settings.batch))
            raise UsageError(
                f"{path} has a fixed batch of {shape[0]}, and {asked} was asked for",
                hint=f"Give --batch {shape[0]}, or export the network with a dynamic batch.",
                path=path,
            )
        rest = shape[1:]
        if -1 in rest:
            if len(settings.image) != len(rest) or any(
                size not in (-1, given) for size, given in zip(rest, settings.image, strict=True)
            ):
                raise InputError(
                    f"{path}: the input {tensor.name} is {shape}, and an image is {settings.image}",
                    hint="Export the network with the height and width of its preprocessing.",
                    path=path,
                )
            rest = settings.image
        if -1 in shape:
            dynamic = True
            profile.set_shape(tensor.name, *[(size, *rest) for size in settings.batch])
    if dynamic and config.add_optimization_profile(profile) < 0:
        raise InputError(f"{path}: TensorRT refuses the batch sizes {settings.batch}", path=path)


def _monitor(trt: Any, watch: Watch) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Passes TensorRT's phases on; phases are nested, and `watch` is told of each by its name."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.stopped = False

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self.steps[name] = steps

        def step_complete(self, name: str, step: int) -> bool:
            # An exception must not pass through TensorRT: what cannot be told to anyone is a reason to stop.
            try:
                self.stopped = self.stopped or not watch(name, self.steps.get(name, 0), step + 1)
            except OSError:
                self.stopped = True
            return not self.stopped

        def phase_finish(self, name: str) -> None:
            self.steps.pop(name, None)

    return Monitor()


def _report(library: Library, plan: bytes, messages: Messages, graph: Graph) -> layers.Report:
    """Return the layers from the engine itself where a GPU can open it, else from the builder's log."""
    trt = library.module
    found: tuple[layers.Layer, ...] = ()
    source = "log"
    if not layers.machine_without_gpu():
        log, _ = logger(trt)
        engine = trt.Runtime(log).deserialize_cuda_engine(plan)
        if engine is not None:
            inspector = engine.create_engine_inspector()
            text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
            found, source = layers.from_inspector(text), "inspector"
    if not found:
        texts = [text for _, text in messages.entries if LAYERS in text]
        found, source = layers.from_log(texts[-1] if texts else ""), "log"

    def size(pattern: str) -> int | None:
        match = messages.find(pattern)
        return int(match[1]) if match else None

    return layers.Report(
        source=source,
        layers=found,
        activation_bytes=size(r"Total Activation Memory: (\d+)"),
        weight_bytes=size(r"Total Weights Memory: (\d+)"),
        wanted_int8=graph.int8_nodes(),
    )
