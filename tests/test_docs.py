"""Every `tledge` command that README.md and docs/ show is run, in the order of the page, as a user would.

Flags that only shorten a run are added (see SHORTER): one epoch, half a second of bench. What runs for
minutes, or until it is stopped, has tests of its own.
"""

from __future__ import annotations

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from tests import sets
from tests.commands import tledge

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# benchmarks.md shows how each figure was made, on data outside the project: flags are checked only.
NOT_RUN = {"benchmarks.md", "jetson.md", "engines.md"}
SHORTER = {
    "finetune": ["--epochs", "1"],
    "bench": ["--duration", "0.2", "--force"],
    "demo": None,
    "serve": None,
}
# What says already how large images are.
SIZED = {"--image-size", "--config", "--from"}
AMPLE_MS = "10000"
# Networks too large for a test are run smaller: without their weights, at the size of a thumbnail.
SMALLER = {
    "torchvision:resnet50": ["--weights", "none", "--image-size", "32", "--train-images", "40"],
    "mlp:4096,4096": ["--weights", "none", "--image-size", "32", "--train-images", "40", "--head", "mlp:9,9"],
    "data/gtsrb": ["--image-size", "64"],
    "data/magnetic_tile": ["--image-size", "64"],
}


def commands(page: Path) -> list[list[str]]:
    """Return the words of each command line in the page's code blocks that starts with `tledge`."""
    found = []
    # Blocks of every language are matched, so that the end of one is not taken for the start of another.
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    for language, block in blocks:
        if language not in ("", "sh", "bash", "console"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:1] == ["tledge"]:
                found.append(words[1:])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_flags_that_a_page_shows_exist(page: Path) -> None:
    from tledge.cli import COMMANDS, cli

    for words in commands(page):
        if words[0].startswith("-"):
            continue
        assert words[0] in COMMANDS, f"{page.name}: tledge {words[0]}"
        command = cli.get_command(None, words[0])  # type: ignore[arg-type]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        for word in words[1:]:
            if word.startswith("-") and word != "-":
                assert word.partition("=")[0] in known, f"{page.name}: tledge {' '.join(words)}"


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in NOT_RUN], ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page: Path, photos: Path, tmp_path: Path) -> None:
    lines = [words for words in commands(page) if SHORTER.get(words[0], []) is not None]
    if not lines:
        pytest.skip("shows no command")
    shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(next((photos / "val" / "flower").iterdir()), tmp_path / "rose.jpg")
    (tmp_path / "tledge.toml").write_text('[finetune]\nbackbone = "tledge:cnn"\nimage-size = 32\n')
    if not any(words[0] == "finetune" and "photos.tledge" in words for words in lines):
        run(tmp_path, ["finetune", "photos", "-o", "photos.tledge", "--config", "tledge.toml"])
    if page.name == "recipes.md":
        sets.write(tmp_path / "data", photos)
    if any("clip.mp4" in words for words in lines):
        pytest.importorskip("av")
        from tests.runtime.sources import videos

        videos.encode(tmp_path / "clip.mp4")
    for words in lines:
        if "--camera" in words:
            continue
        if words[0] == "import":
            run(tmp_path, ["export", "photos.tledge", "--for", "onnx", "-o", "model.onnx"])
            shutil.copy(tmp_path / "photos.tledge" / "labels.txt", tmp_path)
            shutil.copy(tmp_path / "photos.tledge" / "preprocess.json", tmp_path)
        again = words[0] == "finetune" and (tmp_path / words[words.index("-o") + 1]).exists()
        run(tmp_path, [*words, "--force"] if again else words)


def run(folder: Path, words: list[str]) -> None:
    smaller = [more for word in words for more in SMALLER.get(word, [])]
    if words[0] == "finetune" and not SIZED.intersection([*words, *smaller]):
        smaller += ["--image-size", "64"]
    words = [*words, *smaller, *(SHORTER.get(words[0]) or [])]
    # The budget is kept on a busy machine too.
    words = [AMPLE_MS if before == "--budget-ms" else word for before, word in pairwise(["", *words])]
    said = tledge(folder, *words)
    assert said.code == 0, f"tledge {' '.join(words)}\n{said.stdout}\n{said.stderr}"
    assert "Traceback" not in said.stderr
