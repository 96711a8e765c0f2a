"""What a model answers for one image."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import os

    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from tledge.preprocess.frames import Frame

# A path, a file's bytes, a PIL image, uint8 pixels H x W x 3 (RGB), or a camera's frame.
AnyImage: TypeAlias = "str | os.PathLike[str] | bytes | NDArray[np.uint8] | Image | Frame"


@dataclass(frozen=True)
class Guess:
    """One of the best answers: a label and its probability, 0 to 1."""

    label: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The answer for one image: the best label, its index and probability, and the best few (`top`).

    `file` is the path that was given ("" for an image in memory). Where the image could not be read `error`
    says why, `label` and `index` are None and `top` is empty. Where no answer is probable enough to count
    `rejected` is true, and `label` and `index` are None; `probability` and `top` are those of the best ones.
    """

    file: str
    label: str | None
    index: int | None
    probability: float | None
    top: tuple[Guess, ...]
    error: str | None = None
    rejected: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `tledge predict --json` prints for one image."""
        return {**asdict(self), "top": [asdict(guess) for guess in self.top]}
