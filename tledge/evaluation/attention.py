"""The worst errors of a network, and where in each image it saw its answer: `errors.json`, `errors.npy`.

Made when the network is trained (`tledge.training.attention`), since gradients need torch; read by the
report. The maps are small: as many values as the network's last map has positions.
"""

from __future__ import annotations

import dataclasses
import io
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tledge.bundle import Bundle, Writer
from tledge.errors import BundleError

NAME, MAPS = "errors.json", "errors.npy"
SCHEMA = 1


@dataclass(frozen=True)
class WorstError:
    """An eval image that was answered wrongly: its file in the bundle, both classes, how sure (0 to 1)."""

    file: str
    name: str
    label: int
    answer: int
    probability: float


@dataclass(frozen=True)
class Attention:
    """The surest wrong answers, the surest first, and a map for each: uint8, errors x rows x columns.

    255 is where the image spoke most for the answer that was given, 0 where nothing did; row 0 is the top of
    what the network saw (after resizing and cropping). `maps` is None where the network has no positions, and
    `layer` then says why, else whose map it is.
    """

    layer: str
    errors: tuple[WorstError, ...]
    maps: NDArray[np.uint8] | None


def put(writer: Writer, found: Attention) -> None:
    """Stage what was found."""
    rows = [dataclasses.asdict(one) for one in found.errors]
    document = {"schema": SCHEMA, "layer": found.layer, "maps": found.maps is not None, "rows": rows}
    writer.put(NAME, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    if found.maps is not None:
        file = io.BytesIO()
        np.save(file, found.maps, allow_pickle=False)
        writer.put(MAPS, file.getvalue())


def read(bundle: Bundle) -> Attention | None:
    """Return what the bundle keeps; None where nobody looked (it was imported, or keeps no images).

    Raises:
        BundleError: it is damaged or newer.
    """
    if not bundle.has(NAME):
        return None
    try:
        document = json.loads(bundle.read(NAME))
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']}")
        errors = tuple(WorstError(**row) for row in document["rows"])
        maps = np.load(io.BytesIO(bundle.read(MAPS)), allow_pickle=False) if document["maps"] else None
        if maps is not None and (maps.dtype != np.uint8 or maps.ndim != 3 or len(maps) != len(errors)):
            raise ValueError(f"maps of {maps.shape} for {len(errors)} images")
        return Attention(str(document["layer"]), errors, maps)
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{NAME} of {bundle.path} is not readable: {error}", path=bundle.path) from error
