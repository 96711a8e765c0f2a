"""Each layer imports only those before it, and torch stays where training is."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "tledge"

# A layer may import from its own rank and from lower ones; layers of one rank only where that is listed.
RANKS = [
    {"errors", "config", "progress"},
    {"bundle", "preprocess"},
    {"cuda"},
    {"data"},
    {"runtime"},
    {"evaluation"},
    {"bench"},
    {"quantization", "engine"},
    {"models", "export", "training"},
    {"report", "serving", "deploy"},
    {"doctor", "demo"},
    {"cli"},
]
SIDEWAYS = {
    ("config", "errors"),
    ("bundle", "preprocess"),
    ("export", "models"),
    ("training", "models"),
    ("training", "export"),
}
TORCH = {"training", "models", "export"}
FILES = sorted(ROOT.rglob("*.py"))


def layer(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def rank(name: str) -> int:
    found = [i for i, names in enumerate(RANKS) if name in names]
    assert found, f"tledge/{name} is in no layer: give it a place in RANKS"
    return found[0]


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that the file imports anywhere, at the top or late, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield str(node.module), node.lineno
            if node.module == "tledge":
                for alias in node.names:
                    yield f"tledge.{alias.name}", node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_layer_imports_only_those_before_it(path: Path) -> None:
    own = layer(path)
    if own in ("__init__", "__main__"):
        return
    for module, line in imports(path):
        parts = module.split(".")
        if parts[0] != "tledge" or len(parts) == 1 or parts[1] == "__version__":
            continue
        other = parts[1]
        allowed = other == own or rank(other) < rank(own) or (own, other) in SIDEWAYS
        assert allowed, f"{path}:{line}: {own} must not import {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_torch_stays_where_training_is(path: Path) -> None:
    if layer(path) in TORCH:
        return
    for module, line in imports(path):
        assert module.split(".")[0] not in ("torch", "torchvision", "timm"), f"{path}:{line} imports {module}"


def test_modules_are_small() -> None:
    for path in FILES:
        lines = path.read_text(encoding="utf-8").count("\n")
        assert lines <= 320, f"{path}: {lines} lines; what two jobs does it do?"


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import tledge.cli", {"numpy", "PIL", "rich", "onnx", "onnxruntime", "torch"}),
        ("import tledge; tledge.load", {"torch", "onnx", "onnxruntime", "openvino"}),
        ("import tledge.preprocess", {"torch", "onnx", "onnxruntime", "PIL"}),
        ("import tledge.quantization", {"torch"}),
        ("import tledge.evaluation, tledge.bench, tledge.deploy.device", {"torch"}),
    ],
)
def test_heavy_imports_are_late(code: str, unwanted: set[str]) -> None:
    script = f"{code}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert not unwanted & set(loaded.split())
