"""Names: which files are images, in which order classes stand, and which names a bundle can hold."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from tledge.errors import InputError, MachineError

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .ppm .pgm .pbm .pnm .avif".split()
)
# What macOS leaves in archives: a shadow of each file, under the same names.
_LITTER = ("__MACOSX",)


def natural_key(name: str) -> tuple[object, ...]:
    """Return a sort key under which digits in names count as numbers: "2" before "10", "a9" before "a10".

    Letters compare without case; names that are equal so far compare by code point, so that the order is one
    and the same everywhere. Digits are compared as text, by length first, as a name may be of any length.
    """
    key: list[object] = []
    for position, part in enumerate(re.split(r"([0-9]+)", name)):
        digits = part.lstrip("0")
        key.append((len(digits), digits) if position % 2 else part.casefold())
    return tuple(key), name


def is_image(name: str) -> bool:
    """Tell whether a file of this name is taken for an image: not hidden, and by suffix, in either case."""
    return not is_hidden(name) and os.path.splitext(name)[1].lower() in SUFFIXES


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder of this name is never looked at."""
    return name.startswith(".") or name in _LITTER


def subfolders(folder: Path) -> list[Path]:
    """Return the folders directly in `folder` that are not hidden, in natural order."""
    return [Path(entry.path) for entry in _entries(folder) if entry.is_dir()]


def plain_files(folder: Path) -> list[str]:
    """Return the names of the files directly in `folder` that are not hidden, in natural order."""
    return [entry.name for entry in _entries(folder) if entry.is_file()]


def files_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the image files anywhere below `folder`, and the other files, each in natural order by folder.

    Links to folders are followed, once each. Hidden names are in neither list.
    """
    images: list[Path] = []
    others: list[Path] = []
    seen: set[str] = set()

    def walk(place: Path) -> None:
        real = os.path.realpath(place)
        if real in seen:
            return
        seen.add(real)
        for entry in _entries(place):
            if entry.is_dir():
                walk(Path(entry.path))
            else:
                (images if is_image(entry.name) else others).append(Path(entry.path))

    walk(folder)
    return images, others


def image_files(folder: Path) -> list[Path]:
    """Return the image files anywhere below `folder`, in natural order by folder."""
    return files_below(folder)[0]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if not is_hidden(entry.name)]
    except PermissionError as error:
        raise no_permission(folder) from error
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}", path=folder) from error
    return sorted(entries, key=lambda entry: natural_key(entry.name))


def no_permission(path: Path) -> MachineError:
    """Return the error that says so."""
    return MachineError(
        f"no permission to read {path}", hint="Ask its owner, or copy what you may read.", path=path
    )


def relative_name(path: Path, root: Path) -> str:
    """Return the name of a file in the data: its path from `root` with "/", or its whole path outside of it.

    Raises:
        InputError: the name is not UTF-8, and so could not be written into a bundle.
    """
    try:
        name = path.relative_to(root).as_posix()
    except ValueError:
        name = path.as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"the name of {name!a} is not UTF-8", hint="Rename the file.", path=root) from None
    return name


def class_name(text: str, path: Path) -> str:
    """Return a class's name in Unicode's composed form (NFC), without outer blanks.

    File systems differ in how they compose letters: the same name must be the same class everywhere.

    Raises:
        InputError: it is empty, holds control characters, or is not UTF-8; `path` is where it was met.
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not name or any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name):
        what = "an empty class name" if not name else f"{name!a} cannot be the name of a class"
        raise InputError(f"{what} in {path}", hint="Use letters, digits and blanks.", path=path)
    return name


def read_classes(path: Path) -> tuple[str, ...] | None:
    """Return the classes that the `classes.txt` at `path` lists, one a line, or None where there is no file.

    Raises:
        InputError: it is not UTF-8, lists nothing, or lists a class twice.
    """
    if not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}", path=path) from error
    names = tuple(class_name(line, path) for line in lines if line.strip())
    if not names:
        raise InputError(f"{path} lists no classes", hint="One class a line, or remove it.", path=path)
    check_unique(names, path)
    return names


def check_unique(names: Iterable[str], path: Path) -> None:
    """Refuse names of which one stands twice (InputError names it)."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"the class {name!r} stands twice in {path}", path=path)
        seen.add(name)
