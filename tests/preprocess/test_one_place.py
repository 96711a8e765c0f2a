"""One place turns an image into a tensor: no other module resizes, crops or normalises one."""

from __future__ import annotations

import ast
from pathlib import Path

import tledge

PACKAGE = Path(tledge.__file__).parent
# Pillow's, OpenCV's, torch's and torchvision's names for it.
CALLS = frozenset(
    "resize thumbnail interpolate center_crop resized_crop CenterCrop Resize Normalize ToTensor to_tensor "
    "blobFromImage create_transform".split()
)
ALLOWED = {
    "training/augment.py": "random augmentation",
    "training/images.py": "what random augmentation crops from is made smaller",
    "report/errors.py": "heat maps over pictures, for people",
    "report/gallery.py": "thumbnails, for people",
    "data/inspection.py": "the fingerprint that finds near duplicates",
}


def calls(source: str) -> set[str]:
    """Return the names of the functions called, without what they are attributes of."""
    called = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return {f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in called}


def test_no_other_preprocessing() -> None:
    found = {}
    for file in PACKAGE.rglob("*.py"):
        name = file.relative_to(PACKAGE).as_posix()
        if name.startswith("preprocess/") or name in ALLOWED:
            continue
        if banned := calls(file.read_text()) & CALLS:
            found[name] = banned
    assert not found, f"use tledge.preprocess: {found}"


def test_the_search_finds_them() -> None:
    assert calls((PACKAGE / "preprocess/pillow.py").read_text()) & CALLS == {"resize"}
