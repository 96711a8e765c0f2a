"""What every part of a run works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tledge.preprocess import Preprocessor
from tledge.progress import Progress
from tledge.training.device import Device
from tledge.training.distributed import ALONE, Team
from tledge.training.images import Images


@dataclass(frozen=True)
class Material:
    """The images, the indices trained on and those chosen on (none, if classes are tiny), and the means."""

    images: Images
    train_on: tuple[int, ...]
    tune_on: tuple[int, ...]
    prepare: Preprocessor
    device: Device
    progress: Progress
    workers: int
    watch: Callable[[int, Mapping[str, float]], None] | None = None  # told of each epoch
    team: Team = ALONE

    @property
    def train_labels(self) -> NDArray[np.int64]:
        """Return the classes of `train_on`."""
        return self.images.labels[list(self.train_on)]

    @property
    def tune_labels(self) -> NDArray[np.int64]:
        """Return the classes of `tune_on`."""
        return self.images.labels[list(self.tune_on)]
