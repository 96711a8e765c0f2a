"""Features kept between runs: what a frozen body makes of images it has seen before is read, not computed.

The name of a file is the hash of everything that its content hangs on: the body's weights, the spec, the
images' own hashes in their order, precision, device, cores, and the versions of the packages. So a cache that
is out of date is not found, and what is found has the bits that would be computed. The file's own hash
is checked when it is read; one that is damaged counts as missing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.numpy import load as parse
from safetensors.numpy import save as serialise

from tledge.bundle import provenance
from tledge.bundle.files import user_cache, write_atomic
from tledge.errors import TledgeError
from tledge.models import Network
from tledge.training import features
from tledge.training.features import Floats
from tledge.training.material import Material

MOST_BYTES = 2 << 30  # of all files together: a hundred thousand images of Lite0, some times over
DIGEST = 32  # bytes of SHA-256 before the tensors


def over(network: Network, material: Material, indices: Sequence[int], *, keep: bool) -> list[Floats]:
    """Return the features of images and of their mirror images, N x D float32 each, in the order given.

    With `keep` they are read from the cache where it has them, and written to it where not.

    Raises:
        InputError: an image cannot be read, or is no longer what it was when the run began.
    """
    path = folder() / f"{key(network, material, indices)}.features" if keep else None
    if path is not None and (found := read(path)) is not None:
        material.progress.note(f"features: {len(indices)} images from {path.parent}")
        return found
    views = features.over(network.features, material, indices, title="features", mirrored=True)
    if path is not None:
        try:
            write(path, views)
        except (TledgeError, OSError) as error:  # a full disk, or no home: the run needs none of it
            material.progress.note(f"the features are not kept: {error}")
    return views


def folder() -> Path:
    """Return where features are kept."""
    return user_cache("features")


def key(network: Network, material: Material, indices: Sequence[int]) -> str:
    """Return the hash of everything that the features hang on."""
    weights = hashlib.sha256(json.dumps(network.config, sort_keys=True).encode())
    for name, tensor in network.body.state_dict().items():
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    device = material.device
    gpu = torch.cuda.get_device_name(device.torch) if device.name == "cuda" else ""
    images = [material.images.files[index].sha256 for index in indices]
    everything = {
        "weights": weights.hexdigest(),
        "spec": material.prepare.spec.to_json(),
        "images": hashlib.sha256("\n".join(images).encode()).hexdigest(),
        "device": [device.name, gpu, device.bf16, torch.get_num_threads()],
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        "batch": features.BATCH,
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def read(path: Path) -> list[Floats] | None:
    """Return the features of a file; None where there is none, or it is damaged."""
    try:
        data = path.read_bytes()
        if hashlib.sha256(data[DIGEST:]).digest() != data[:DIGEST]:
            return None
        tensors = parse(data[DIGEST:])
        os.utime(path)  # what was used last goes last
        return [tensors["plain"], tensors["mirrored"]]
    except (OSError, SafetensorError, KeyError):
        return None


def write(path: Path, views: Sequence[Floats]) -> None:
    """Keep the features, all of them or nothing; what was not used for longest makes room."""
    data = serialise(dict(zip(("plain", "mirrored"), views, strict=True)))
    if len(data) > MOST_BYTES:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    used = len(data)
    files = [(file.stat(), file) for file in path.parent.glob("*.features")]
    for status, file in sorted(files, key=lambda one: one[0].st_mtime, reverse=True):
        used += status.st_size
        if used > MOST_BYTES:
            file.unlink(missing_ok=True)
    write_atomic(path, hashlib.sha256(data).digest() + data)
