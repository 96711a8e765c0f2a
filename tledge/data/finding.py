"""What is in a place: folders of classes, a CSV file, IDX files or CIFAR's binary files."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tledge.data import records
from tledge.data.dataset import SPLITS, Dataset, assemble
from tledge.data.names import (
    class_name,
    files_below,
    no_permission,
    plain_files,
    read_classes,
    relative_name,
    subfolders,
)
from tledge.errors import InputError, nearest

Row = tuple[str, Path, "int | None", str]  # class, file, record, name

# Names under which other tools write the split that we call val.
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_IDX = re.compile(r"(train|t10k|test|val)-(images|labels)[-.]idx([13])-ubyte(\.gz)?")
_CIFAR = re.compile(r"(data|test|val)_batch(_[0-9]+)?\.bin")
_COLUMNS = "The first line must name the columns: path,label or path,label,split."


def find(path: str | Path, labels: Sequence[str] | None = None) -> Dataset:
    """Return the data set at `path`; docs/data.md describes each layout.

    Args:
        path: a folder with splits (`train/CLASS/*`, `val/...`, `test/...`), a flat folder (`CLASS/*`), a CSV
            file, or a folder of IDX or CIFAR binary files.
        labels: the classes to map to, in order, where they are known already (a bundle's labels). Classes
            that have no images here are then no error, and neither is a single class.

    Raises:
        InputError: no such folder; no images; a class that is empty, unknown, or missing from one split;
            fewer than two classes; a damaged file.
        MachineError: no permission to read it.
    """
    path = Path(path)
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except PermissionError as error:
        raise no_permission(path) from error
    if is_file:
        if path.suffix.lower() != ".csv":
            raise InputError(f"{path} is a file", hint="Give a folder of images, or a CSV file.", path=path)
        return _csv(path, labels)
    if not is_folder:
        raise InputError(f"there is no folder {path}", hint="Check the path.", path=path)
    files = plain_files(path)
    if any(_IDX.fullmatch(name) for name in files):
        return _idx(path, files, labels)
    if any(_CIFAR.fullmatch(name) for name in files):
        return _cifar(path, files, labels)
    return _folders(path, labels)


def _folders(root: Path, labels: Sequence[str] | None) -> Dataset:
    places = _split_places(root)
    kind = "folders" if places else "flat"
    listed = read_classes(root / "classes.txt")
    found: dict[str, list[Row]] = {}
    ignored: list[str] = []
    empty: list[str] = []
    for split, place in (places or {"train": root}).items():
        found[split] = []
        named: dict[str, Path] = {}
        for folder in subfolders(place):
            name = class_name(folder.name, place)
            if name in named:
                raise InputError(f"{named[name]} and {folder} are the same class, {name!r}", path=place)
            named[name] = folder
            images, others = files_below(folder)
            found[split] += [(name, image, None, relative_name(image, root)) for image in images]
            ignored += [relative_name(other, root) for other in others]
            if not images:
                empty.append(f"{folder}" + (f" ({len(others)} files of other kinds)" if others else ""))
    if empty and any(found.values()) and not labels:
        message = f"no images in {empty[0]}" + (f" and {len(empty) - 1} other folders" if empty[1:] else "")
        hint = "Each folder is a class and needs images in it: add some, or remove the folder."
        raise InputError(message, hint=hint, path=root)
    used = {place.name for place in places.values()}
    if places:
        ignored += [f"{other.name}/" for other in subfolders(root) if other.name not in used]
    return assemble(root, kind, found, listed=listed, labels=labels, ignored=ignored)


def _split_places(root: Path) -> dict[str, Path]:
    """Return the folders that are splits: those named so that hold folders, not images.

    A class may be called "train": a folder of that name with images directly in it is a class.
    """
    places: dict[str, Path] = {}
    for folder in subfolders(root):
        split = SPLIT_NAMES.get(folder.name.lower())
        if split is None or not subfolders(folder):
            continue
        if split in places:
            raise InputError(f"{places[split]} and {folder} are both the {split} split", path=root)
        places[split] = folder
    return {split: places[split] for split in SPLITS if split in places}


def _csv(path: Path, labels: Sequence[str] | None) -> Dataset:
    root = path.parent
    found: dict[str, list[Row]] = {}
    seen: dict[str, int] = {}
    unsplit = 0
    for line, row in _csv_rows(path):
        if not row["path"]:
            raise InputError(f"{path}, line {line}: no path", hint=_COLUMNS, path=path)
        name = relative_name(root / row["path"], root)
        if name in seen:
            raise InputError(f"{path} lists {name} twice, in lines {seen[name]} and {line}", path=path)
        seen[name] = line
        split = SPLIT_NAMES.get(row["split"].lower() or "train")
        if split is None:
            where = f"{path}, line {line}: unknown split {row['split']!r}"
            raise InputError(where, hint=nearest(row["split"], SPLITS), path=path)
        unsplit += not row["split"]
        label = class_name(row["label"], Path(f"{path}, line {line}"))
        found.setdefault(split, []).append((label, root / row["path"], None, name))
    if 0 < unsplit < len(seen):
        raise InputError(
            f"{path}: {unsplit} of {len(seen)} lines give no split", hint="All or none.", path=path
        )
    listed = read_classes(root / "classes.txt")
    dataset = assemble(path, "csv", found, listed=listed, labels=labels)
    return dataclasses.replace(dataset, root=root)  # errors name the CSV; names start from its folder


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, {"path", "label", "split"}) of each line that is not empty."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        columns = [name.strip().lower() for name in next(reader, [])]
        if "path" not in columns or "label" not in columns or len(set(columns)) != len(columns):
            raise InputError(f"{path} has the columns {', '.join(columns)[:80]!r}", hint=_COLUMNS, path=path)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(columns):
                message = f"{path}, line {reader.line_num}: {len(cells)} cells under {len(columns)} columns"
                raise InputError(message, hint="Put a cell that holds a comma in quotes.", path=path)
            row = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
            if "\0" in row["path"]:
                raise InputError(f"{path}, line {reader.line_num}: no path has a zero byte", path=path)
            yield reader.line_num, {key: row.get(key, "") for key in ("path", "label", "split")}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV in UTF-8: {error}", path=path) from error


def _idx(root: Path, files: Iterable[str], labels: Sequence[str] | None) -> Dataset:
    """Read the labels of IDX files; t10k (or test) is the split "test"."""
    pairs: dict[str, dict[str, Path]] = {}
    for name in files:
        match = _IDX.fullmatch(name)
        if match:
            split = {"t10k": "test"}.get(match[1], match[1])
            there = pairs.setdefault(split, {}).setdefault(match[2], root / name)
            if there.name != name:
                raise InputError(f"{there} and {root / name} are the same file twice", path=root)
    numbers: dict[str, list[tuple[int, Path, int]]] = {}
    for split, pair in pairs.items():
        if len(pair) < 2:
            (there,) = pair.values()
            lacking = "labels" if "images" in pair else "images"
            raise InputError(f"{there} is there without its {lacking}", hint="Copy both files.", path=root)
        images, classes = records.read_idx(pair["images"], 3), records.read_idx(pair["labels"], 1)
        if len(images) != len(classes):
            message = f"{pair['images']} has {len(images)} images, and {pair['labels']} {len(classes)} labels"
            raise InputError(message, path=root)
        numbers[split] = [(label, pair["images"], index) for index, label in enumerate(classes.tolist())]
    return _numbered(root, "idx", numbers, read_classes(root / "classes.txt"), labels)


def _cifar(root: Path, files: Iterable[str], labels: Sequence[str] | None) -> Dataset:
    """Read the labels of CIFAR-10's binary files; test_batch is the split "test"."""
    numbers: dict[str, list[tuple[int, Path, int]]] = {}
    for name in files:
        match = _CIFAR.fullmatch(name)
        if match:
            split = {"data": "train"}.get(match[1], match[1])
            classes = records.read_cifar(root / name)[:, 0].tolist()
            rows = [(label, root / name, index) for index, label in enumerate(classes)]
            numbers.setdefault(split, []).extend(rows)
    listed = read_classes(root / "classes.txt") or read_classes(root / "batches.meta.txt")
    return _numbered(root, "cifar", numbers, listed, labels)


def _numbered(
    root: Path,
    kind: str,
    numbers: dict[str, list[tuple[int, Path, int]]],
    listed: tuple[str, ...] | None,
    labels: Sequence[str] | None,
) -> Dataset:
    """Name numbered classes: line n of the list is class n; without a list the number is the name."""
    highest = max(label for rows in numbers.values() for label, *_ in rows)
    if listed and highest >= len(listed):
        path = next(path for rows in numbers.values() for label, path, _ in rows if label == highest)
        raise InputError(
            f"{path} has the label {highest}, and only {len(listed)} classes are listed", path=path
        )
    names = listed or tuple(map(str, range(highest + 1)))
    found = {
        split: [
            (names[label], path, index, f"{relative_name(path, root)}#{index}") for label, path, index in rows
        ]
        for split, rows in numbers.items()
    }
    return assemble(root, kind, found, listed=listed, labels=labels)
