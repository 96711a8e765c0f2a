"""Fine-tuning: from a folder of images to a scored bundle."""

import os

# Threads that wait for each other sleep instead of spinning: they share the cores with the threads that
# decode ahead, and with other programs. On two busy cores a step of EfficientNet-Lite0 took 2.5 s instead of
# 7.7. OpenMP reads this once, when torch loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from tledge.training.finetune import finetune
from tledge.training.settings import FinetuneSettings

__all__ = ["FinetuneSettings", "finetune"]
