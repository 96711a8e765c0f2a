"""The answers of a session for images: read, decoded and preprocessed ahead while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tledge.data import decode
from tledge.data.ahead import stacked
from tledge.evaluation.images import EvalSet, Readable
from tledge.preprocess import Preprocessor
from tledge.progress import Progress
from tledge.runtime import Session

# The fastest for float32 on two cores (see tledge.runtime.model), and the same everywhere: a library may add
# in another order for another batch, and two stages should differ by their graphs alone.
BATCH = 4
WORKERS = 2


def logits(
    session: Session,
    prepare: Preprocessor,
    images: EvalSet,
    progress: Progress | None = None,
    workers: int = WORKERS,
) -> NDArray[np.float32]:
    """Return the session's logits for each image in order, float32 N x classes.

    Threads read, decode and preprocess ahead while the session runs.

    Raises:
        InputError: an image cannot be read (it is named).
        BundleError: an eval image is not the one that was written.
    """
    progress = progress or Progress.silent()
    title = f"scoring {session.variant}@{session.backend}"
    parts: list[NDArray[np.float32]] = []
    with progress.task(title, total=len(images)) as task:
        for batch in _batches(prepare, images.images, session.at_once(BATCH), workers):
            parts.append(session.run(batch))
            task.advance(len(batch))
    return np.concatenate(parts)


def _batches(
    prepare: Preprocessor, images: tuple[Readable, ...], size: int, workers: int
) -> Iterator[NDArray[Any]]:
    def tensor(image: Readable) -> NDArray[Any]:
        return decode.tensor(image.read(), prepare, name=image.name)

    return stacked(tensor, images, size, workers=workers, ahead=8 * BATCH)
