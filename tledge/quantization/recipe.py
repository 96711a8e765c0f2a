"""Recipes: how a family of networks is best quantised, as one TOML file each, with the evidence for it.

They ship with tledge (calib/recipes); a user's own file is read in the same way. calib/README.md specifies
the keys.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tledge
from tledge import config
from tledge.bundle import Bundle
from tledge.errors import UsageError, nearest
from tledge.quantization import ranges

if TYPE_CHECKING:
    from tledge.quantization.graph import Graph

# For a network of no known family: imported, or the user's own.
GENERAL = "general"
# What calibration can do to win back what rounding lost; a recipe names those that are tried.
REPAIRS = ("equalisation", "correction", "rounding")


@dataclass(frozen=True)
class Evidence:
    """Why the choices are what they are: measured by `source` (a command), or published there."""

    measured: bool
    result: str
    source: str


@dataclass(frozen=True)
class Recipe:
    """The starting choices for one family.

    `backbones` and `float` are patterns (`*`, `?`) of backbones' names without their library, and of names or
    operators of nodes; `ranges` are methods of `tledge.quantization.ranges`, all of them tried.
    """

    name: str
    family: str
    backbones: tuple[str, ...]
    images: int
    ranges: tuple[str, ...]
    repair: tuple[str, ...]
    float: tuple[str, ...]
    evidence: Evidence
    sha256: str

    def floating(self, graph: Graph) -> frozenset[str]:
        """Return the nodes of `graph` that stay float whatever the rules say."""
        return frozenset(
            node.name
            for node in graph.nodes
            if any(fnmatchcase(node.name, p) or fnmatchcase(node.op_type, p) for p in self.float)
        )


def folder() -> Path:
    """Return where the recipes are: in the installed package, or in calib/ of a checkout."""
    package = Path(tledge.__file__).parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "calib" / "recipes"


def names() -> tuple[str, ...]:
    """Return the names of the recipes that ship with tledge."""
    return tuple(sorted(path.stem for path in folder().glob("*.toml")))


def choose(bundle: Bundle, asked: str | None) -> tuple[Recipe, str]:
    """Return the recipe and, for the user, why it is this one.

    Args:
        bundle: Its backbone decides where nothing was asked for.
        asked: The name of a recipe, or a file (with a slash or the suffix .toml).

    Raises:
        UsageError: there is no recipe of that name, or a key of the file is unknown or wrong.
        InputError: the file is missing, or is not TOML.
    """
    if asked is not None:
        return find(asked), "asked for"
    backbone = backbone_of(bundle)
    if backbone is None:
        return find(GENERAL), "the bundle does not say which backbone it has"
    for name in names():
        recipe = find(name)
        if any(fnmatchcase(backbone.rpartition(":")[2].lower(), pattern) for pattern in recipe.backbones):
            return recipe, f"the backbone is {backbone}"
    return find(GENERAL), f"none is known for {backbone}"


def find(asked: str) -> Recipe:
    """Return the recipe of that name, or in that file. Raises as `choose` does."""
    if asked.endswith(".toml") or "/" in asked:
        return read(Path(asked))
    if asked not in names():
        raise UsageError(
            f"no such recipe: {asked}",
            hint=nearest(asked, names()) + " A file of your own ends in .toml.",
        )
    return read(folder() / f"{asked}.toml")


def backbone_of(bundle: Bundle) -> str | None:
    """Return the backbone that the bundle's weights are of; None where it has none."""
    if not bundle.has("model.safetensors"):
        return None
    data = bundle.read("model.safetensors")
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return str(json.loads(header["__metadata__"]["tledge.network"])["backbone"])


def read(path: Path) -> Recipe:
    """Return the recipe in a TOML file. Raises as `choose` does."""
    document = config.parse(path)
    head = _checked(path, document, Recipe, without=("name", "sha256"))
    evidence = Evidence(**_checked(path, head["evidence"], Evidence))
    known = {"ranges": tuple(ranges.METHODS), "repair": REPAIRS}
    for key, words in known.items():
        for word in head[key]:
            if word not in words:
                raise UsageError(f"{path}: {key} has {word!r}", hint=nearest(word, words), path=path)
    if head["images"] < 1 or not head["ranges"]:
        raise UsageError(f"{path}: at least one image, and one way to find ranges", path=path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Recipe(**(head | {"name": path.stem, "evidence": evidence, "sha256": digest}))


def _checked(
    path: Path, table: Mapping[str, Any], kind: type[Recipe | Evidence], without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the values of a table whose keys and types are those of the dataclass `kind`."""
    kinds = {field.name: str(field.type) for field in dataclasses.fields(kind) if field.name not in without}
    for key in table:
        if key not in kinds:
            raise UsageError(f"{path}: a recipe has no key {key!r}", hint=nearest(key, kinds), path=path)
    values: dict[str, Any] = {}
    for key, wanted in kinds.items():
        if key not in table:
            raise UsageError(f"{path} lacks the key {key!r}", hint="calib/README.md has them.", path=path)
        value = table[key]
        fits = {
            "str": isinstance(value, str),
            "int": isinstance(value, int) and not isinstance(value, bool),
            "bool": isinstance(value, bool),
            "Evidence": isinstance(value, dict),
        }
        words = isinstance(value, list) and all(isinstance(word, str) for word in value)
        if not fits.get(wanted, words):
            raise UsageError(
                f"{path}: {key} is {value!r}", hint="calib/README.md says what it is.", path=path
            )
        values[key] = tuple(value) if isinstance(value, list) else value
    return values
