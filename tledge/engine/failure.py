"""What TensorRT could not do, in words that name the node, the reason and the next step."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tledge.engine.graph import Node
from tledge.engine.settings import BuildSettings
from tledge.errors import InputError, MachineError, TledgeError
from tledge.runtime.tensorrt_library import Library
from tledge.runtime.tensorrt_log import MEMORY, Messages, tidy

SHOWN = 4


def explain_parse(
    library: Library, errors: Sequence[Any], unsupported: Sequence[Node], path: Path
) -> InputError:
    """Return the error for a graph that the parser refused.

    `errors` are the parser's own; `unsupported` are the nodes that are in no part which it could take.
    """
    first = errors[0] if errors else None
    reason = tidy(first.desc()) if first is not None else ""
    operator = first.node_operator() if first is not None else ""
    if first is not None and operator:
        message = f"{library.title} cannot take the node {first.node_name()!r} ({operator}) of {path}"
    else:
        message = f"{library.title} cannot read {path}"
    message += f": {reason}" if reason else ": it has no such operator" if operator else ""
    hint = "Check the graph with onnx.checker.check_model, or export it again."
    if unsupported:
        hint = f"In no part of the graph that it can take: {_listed(unsupported)}. "
        hint += "Export the network with other operators in their place, or use --backend onnxruntime."
    return InputError(message, hint=hint, path=path)


def explain_build(library: Library, messages: Messages, settings: BuildSettings, path: Path) -> TledgeError:
    """Return the error for a network that was parsed and could not be built."""
    errors = messages.errors()
    text = "\n".join(errors)
    reason = "; ".join(errors[:SHOWN]) or "it gives no reason"
    if MEMORY.search(text):
        asked = re.search(r"Requested size was (\d+)", text)
        needs = f" (it asked for {int(asked[1]) / 2**20:.0f} MiB at once)" if asked else ""
        limit = f"; the workspace was {settings.workspace_mib} MiB" if settings.workspace_mib else ""
        return MachineError(
            f"there was not enough memory to build {path}{needs}{limit}",
            hint="Give a larger --workspace or a smaller largest batch, or close what else uses the GPU.",
            path=path,
        )
    if "35" in reason and "driver" in reason:
        return MachineError(
            f"{library.title} needs a driver: {reason}", hint="`tledge doctor` looks for one."
        )
    if refused := re.search(r"Cannot compile operation '([^']+)' for ([^:]+): (.+)", text):
        return InputError(
            f"{library.title} cannot build the node {refused[1]!r} of {path} for {refused[2]}: {refused[3]}",
            hint="Leave out that GPU, or build another precision.",
            path=path,
        )
    return InputError(
        f"{library.title} cannot build {path}: {reason}",
        hint="`--precision fp32` tells whether the graph's precision is the cause.",
        path=path,
    )


def _listed(nodes: Sequence[Node]) -> str:
    shown = ", ".join(f"{node.name} ({node.operator})" for node in nodes[:SHOWN])
    return shown + (f" and {len(nodes) - SHOWN} more" if len(nodes) > SHOWN else "")
