"""The bundle: the one artefact, a directory `NAME.tledge/` that each command reads and adds to.

The format is written down in docs/bundle.md.
"""

from tledge.bundle.records import EvalImage, Row, TrainFile
from tledge.bundle.store import VARIANTS, Bundle
from tledge.bundle.writer import Writer

__all__ = ["VARIANTS", "Bundle", "EvalImage", "Row", "TrainFile", "Writer"]
