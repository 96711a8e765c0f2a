"""The records that a bundle keeps: ledger rows, eval images, train files. Plain data with a strict reader."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, TypeVar

from tledge.errors import BundleError

Record = TypeVar("Record", bound="Row | EvalImage | TrainFile | Suspect")


@dataclass(frozen=True)
class Row:
    """One line of the ledger: a stage, scored. Percentages are 0 to 100; `kl` is in nats.

    `agreement`, `flips` and `kl` are against `parent`, the stage that this one was made from, on the same
    images; None without parent.
    """

    stage: str
    parent: str | None
    variant: str | None
    backend: str
    device: str
    n: int
    top1: float
    top1_low: float
    top1_high: float
    top5: float
    agreement: float | None
    flips: int | None
    kl: float | None
    data_sha256: str
    file_sha256: str

    def as_dict(self) -> dict[str, Any]:
        """Return the row as in `ledger.json` and in every command's JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class EvalImage:
    """One image that every stage is scored on: where its bytes are in the bundle, and what it shows.

    `name` is the path it had in the user's data, for people; `file` is the name in the bundle.
    """

    file: str
    label: int
    name: str
    sha256: str


@dataclass(frozen=True)
class TrainFile:
    """One training image by path (relative to the train root) and hash.

    `part` is "train", or "tune": kept apart from training, for every choice.
    """

    path: str
    label: int
    sha256: str
    part: str


@dataclass(frozen=True)
class Suspect:
    """A training image whose label may be wrong, by probes that had not seen it.

    `path` and `label` are as in `train.json`; `suggested` is the class that it looks like. `given` and
    `probability` (0 to 1) are the probabilities of the two.
    """

    path: str
    label: int
    given: float
    suggested: int
    probability: float


def encode(records: list[Any], **head: Any) -> bytes:
    """Return a JSON document `{**head, "rows": [...]}` with one record a line, so that diffs can be read."""
    lines = ",\n".join(
        "  " + json.dumps(dataclasses.asdict(record), ensure_ascii=False) for record in records
    )
    start = "".join(f' "{key}": {json.dumps(value, ensure_ascii=False)},\n' for key, value in head.items())
    return f'{{\n{start} "rows": [\n{lines}\n ]\n}}\n'.encode()


def decode(kind: type[Record], data: bytes, name: str) -> tuple[Record, ...]:
    """Return the records of a document that `encode` wrote.

    Raises:
        BundleError: it is not such a document; `name` is the file, for the message.
    """
    try:
        found = tuple(kind(**row) for row in json.loads(data)["rows"])
        for record in found:
            _check(record)
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{name} is not readable: {error}", path=name) from error
    return found


# What each annotation of a record allows in JSON; a float may be written without a point.
_ALLOWED: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "str | None": (str, type(None)),
    "int | None": (int, type(None)),
    "float | None": (int, float, type(None)),
}


def _check(record: Row | EvalImage | TrainFile | Suspect) -> None:
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if type(value) not in _ALLOWED[str(field.type)]:
            raise TypeError(f"{field.name} is {value!r}, which is not {field.type}")
