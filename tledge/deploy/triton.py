"""`tledge export --for triton`: a model repository that Triton serves as it is.

The configuration is protobuf text of Triton's own `ModelConfig`:
https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

from __future__ import annotations

import re
from pathlib import Path

from tledge.bundle import Bundle
from tledge.deploy.folder import write_folder
from tledge.deploy.graph import Ports, ports, read_graph
from tledge.errors import UsageError

TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "float64": "TYPE_FP64",
    "uint8": "TYPE_UINT8",
    "int8": "TYPE_INT8",
}
# A request waits at most this long for others to share its batch: less than one inference of a small network.
QUEUE_DELAY_US = 1000


def export_triton(
    bundle: Bundle, variant: str, out: Path, *, batch: int = 16, force: bool = False
) -> tuple[str, ...]:
    """Write a repository with one model, named after the bundle, and return its files' names.

    `batch` is the largest batch; a graph whose batch is fixed is served with that, and without batching.

    Raises:
        UsageError: no such variant, or `out` is in the way.
        MachineError: onnx is not installed, or `out` cannot be written.
    """
    name = model_name(bundle.path)
    graph = ports(read_graph(bundle, variant))
    text = config(name, graph, bundle.spec.shape, len(bundle.labels), batch=batch, cpu=variant == "int8-cpu")
    files = {
        f"{name}/config.pbtxt": text.encode(),
        f"{name}/labels.txt": bundle.read("labels.txt"),
        f"{name}/preprocess.json": bundle.read("preprocess.json"),
        f"{name}/1/model.onnx": bundle.read(f"{variant}.onnx"),
    }
    write_folder(out, files, force=force)
    return tuple(files)


def model_name(path: Path) -> str:
    """Return the model's name: the bundle's, with `_` for what URLs cannot carry as it is."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", path.resolve().name.removesuffix(".tledge")).strip(".")
    if not name:
        raise UsageError(f"{path} gives no name for a model", hint="Rename the bundle.", path=path)
    return name


def config(
    name: str, graph: Ports, shape: tuple[int, ...], classes: int, *, batch: int = 16, cpu: bool = False
) -> str:
    """Return config.pbtxt for an ONNX graph of input `shape` (no batch) and `classes` logits."""
    fixed = () if graph.batch is None else (graph.batch,)
    image = _dims((*fixed, *shape))
    logits = _dims((*fixed, classes, *[1] * (graph.output_rank - 2)))
    kind, answer = TYPES[graph.input_dtype], TYPES[graph.output_dtype]
    sizes = (1, batch) if graph.batch is None and batch > 1 else (1,)
    lines = [
        f'name: "{name}"',
        'backend: "onnxruntime"',
        'default_model_filename: "model.onnx"',
        # 0: the dimensions below hold the batch themselves.
        f"max_batch_size: {batch if graph.batch is None else 0}",
        f'input [ {{ name: "{graph.input}" data_type: {kind} dims: {image} }} ]',
        f'output [ {{ name: "{graph.output}" data_type: {answer} dims: {logits}'
        ' label_filename: "labels.txt" } ]',
        "version_policy { latest { num_versions: 1 } }",
    ]
    if graph.batch is None:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY_US} }}")
    if cpu:
        lines.append("instance_group [ { kind: KIND_CPU } ]")
    # The first inference allocates and chooses kernels, for the smallest and for the largest batch.
    for size in sizes:
        lines.append(
            f'model_warmup [ {{ name: "batch of {size}" batch_size: {size} inputs {{ key: "{graph.input}" '
            f"value {{ data_type: {kind} dims: {image} zero_data: true }} }} }} ]"
        )
    return "\n".join(lines) + "\n"


def _dims(sizes: tuple[int, ...]) -> str:
    return f"[ {', '.join(map(str, sizes))} ]"
