"""IDX files (MNIST, Fashion-MNIST) and CIFAR's binary files: many small images in one file.

IDX (Y. LeCun, http://yann.lecun.com/exdb/mnist): two zero bytes, the type (8: unsigned byte), the number of
dimensions, each dimension as a big-endian 32-bit integer, the data. CIFAR-10 binary version (A. Krizhevsky,
https://www.cs.toronto.edu/~kriz/cifar.html): 3073 bytes a record, the label and then 32 x 32 red, green and
blue values.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tledge.errors import InputError

Bytes = npt.NDArray[np.uint8]

UNSIGNED_BYTE = 8
CIFAR_SIDE = 32
CIFAR_RECORD = 1 + 3 * CIFAR_SIDE * CIFAR_SIDE
_CHUNK = 1 << 20
_AGAIN = "Download or copy the file again."


def read_idx(path: Path, dimensions: int) -> Bytes:
    """Return the data of an IDX file of unsigned bytes with so many dimensions; ".gz" is unpacked.

    Raises:
        InputError: it cannot be read, is no such file, or is shorter or longer than its header says.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4 + 4 * dimensions)
            if len(head) < 4 + 4 * dimensions or head[:4] != bytes((0, 0, UNSIGNED_BYTE, dimensions)):
                raise InputError(
                    f"{path} is no IDX file of unsigned bytes with {dimensions} dimensions: it begins with "
                    f"{head[:4].hex(' ') or 'nothing'}",
                    hint=_AGAIN,
                    path=path,
                )
            shape = struct.unpack(f">{dimensions}I", head[4:])
            expected = math.prod(shape)
            data = bytearray()
            while len(data) <= expected and (chunk := file.read(_CHUNK)):
                data += chunk
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path} cannot be read: {reason}", hint=_AGAIN, path=path) from error
    if len(data) != expected or expected == 0:
        size = " x ".join(map(str, shape))
        has = f"more than {expected}" if len(data) > expected else len(data)
        raise InputError(f"{path} says {size} bytes and has {has}", hint=_AGAIN, path=path)
    return np.frombuffer(data, np.uint8).reshape(shape)


def read_cifar(path: Path) -> Bytes:
    """Return the records of a CIFAR-10 binary file, N x 3073, mapped from the file.

    Raises:
        InputError: it cannot be read, or is not a whole number of records.
    """
    try:
        size = path.stat().st_size
        if size == 0 or size % CIFAR_RECORD:
            raise InputError(
                f"{path} is no CIFAR-10 binary file: {size} bytes are not a whole number of records of "
                f"{CIFAR_RECORD}",
                hint=_AGAIN,
                path=path,
            )
        return np.memmap(path, np.uint8, mode="r", shape=(size // CIFAR_RECORD, CIFAR_RECORD))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path} cannot be read: {reason}", hint=_AGAIN, path=path) from error


def image_bytes(path: Path, index: int) -> bytes:
    """Return record `index` of an IDX or CIFAR file as the bytes of a binary PGM or PPM file.

    Raises:
        InputError: the file cannot be read, or has no such record.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", path=path) from error
    data = _records(path, status.st_mtime_ns, status.st_size)
    if index >= len(data):
        raise InputError(f"{path} has {len(data)} images, and no number {index}", path=path)
    if data.ndim == 2:
        pixels = data[index, 1:].reshape(3, CIFAR_SIDE, CIFAR_SIDE).transpose(1, 2, 0)
        return b"P6\n%d %d\n255\n%b" % (CIFAR_SIDE, CIFAR_SIDE, pixels.tobytes())
    _, height, width = data.shape
    return b"P5\n%d %d\n255\n%b" % (width, height, data[index].tobytes())


@lru_cache(maxsize=16)  # CIFAR-10 is six files; each is mapped or read once
def _records(path: Path, mtime: int, size: int) -> Bytes:
    return read_cifar(path) if path.suffix == ".bin" else read_idx(path, 3)
