"""What a run needs to go on, one file an epoch: safetensors, with the rest as JSON in its metadata."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialise
from torch import Tensor

from tledge.bundle.files import write_atomic
from tledge.errors import BundleError

KEY = "tledge.checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors, and plain data beside them."""

    tensors: dict[str, Tensor]
    data: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors under `prefix.`, without it."""
        start = f"{prefix}."
        return {name[len(start) :]: tensor for name, tensor in self.tensors.items() if name.startswith(start)}


def encode(checkpoint: Checkpoint) -> bytes:
    """Return the checkpoint as the bytes of a safetensors file."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    return serialise(plain, metadata={KEY: json.dumps(checkpoint.data)})


def decode(data: bytes) -> Checkpoint:
    """Return the checkpoint that `encode` made these bytes of; raises what damaged bytes make fail."""
    (length,) = struct.unpack_from("<Q", data)
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    return Checkpoint(parse(data), json.loads(metadata[KEY]))


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint, all of it or nothing; the older ones of the same kind go after it is safe."""
    write_atomic(path, encode(checkpoint))
    kind = path.name.partition("-")[0]
    for other in path.parent.glob(f"{kind}-*.safetensors"):
        if other != path:
            other.unlink(missing_ok=True)


def latest(directory: Path, kind: str) -> Checkpoint | None:
    """Return the last checkpoint `KIND-*.safetensors` of the directory, None without one.

    Raises:
        BundleError: it is damaged.
    """
    found = sorted(directory.glob(f"{kind}-*.safetensors"))
    if not found:
        return None
    path = found[-1]
    try:
        return decode(path.read_bytes())
    except (SafetensorError, struct.error, ValueError, KeyError) as error:
        raise BundleError(
            f"the checkpoint {path} is damaged", hint="Start anew with --force.", path=path
        ) from error
