"""An image that was given as a path: its bytes, and what to call it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tledge.errors import InputError
from tledge.preprocess.frames import Frame
from tledge.runtime.prediction import AnyImage


def read_file(path: Path) -> bytes:
    """Return a file's bytes; InputError says why it cannot be read."""
    try:
        return path.read_bytes()
    except IsADirectoryError:
        raise InputError(
            f"{path} is a folder, not an image", hint="Give the images in it.", path=path
        ) from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", hint="Check the path.", path=path
        ) from error


def file_name(image: AnyImage) -> str:
    """Return the path of an image that was given as a path, else ""."""
    # Quicker to tell than os.PathLike, and the usual case in a service.
    if isinstance(image, (bytes, np.ndarray, Frame)):
        return ""
    return str(image) if isinstance(image, (str, os.PathLike)) else ""
