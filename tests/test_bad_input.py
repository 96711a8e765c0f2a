"""What a user on a bad day meets: each wrong input has its exit code and its words, and loses nothing."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands import tledge
from tledge.bundle import Bundle

SMALL = ["--backbone", "tledge:cnn", "--weights", "none", "--image-size", "32", "--epochs", "1"]

pytestmark = pytest.mark.slow


def run(folder: Path, *words: str) -> tuple[int, str]:
    """Run a command as a user would and return its exit code and what it said; never a traceback."""
    said = tledge(folder, *words)
    assert "Traceback" not in said.stderr
    if "--json" in words:
        assert len(said.stdout.splitlines()) == 1
        json.loads(said.stdout)
    return said.code, said.stdout + said.stderr


@pytest.fixture
def folder(photos: Path, tmp_path: Path) -> Path:
    shutil.copytree(photos, tmp_path / "photos")
    return tmp_path


@pytest.fixture(scope="module")
def bundle(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bundle")
    code, said = run(place, "finetune", str(photos), "-o", "b.tledge", *SMALL)
    assert code == 0, said
    return place / "b.tledge"


def huge_png(side: int) -> bytes:
    """Return a PNG of side x side black pixels, a few hundred kilobytes however large it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pack = zlib.compressobj(9)
    row = b"\0" * (1 + side // 8)
    lines = b"".join(pack.compress(row) for _ in range(side)) + pack.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def text_file(path: Path) -> None:
    path.write_text("these are not pixels\n" * 50)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def enormous(path: Path) -> None:
    path.unlink()
    path.with_suffix(".png").write_bytes(huge_png(20000))


@pytest.mark.parametrize("spoil", [text_file, truncated, empty, enormous])
def test_a_bad_image_is_named_and_stops_training_before_it_begins(
    folder: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(folder / "photos/train/china/03.jpg")
    code, said = run(folder, "finetune", "photos", "-o", "b.tledge", *SMALL)
    assert code == 4
    assert "china/03" in said
    assert "--skip-bad" in said
    assert not (folder / "b.tledge").exists()
    code, said = run(folder, "audit", "photos")
    assert code == 0
    assert "china/03" in said


def test_bad_images_are_left_out_when_told_so(folder: Path) -> None:
    truncated(folder / "photos/train/china/03.jpg")
    code, said = run(folder, "finetune", "photos", "-o", "b.tledge", *SMALL, "--skip-bad")
    assert code == 0, said
    assert "china/03" in said
    names = {file.path for file in Bundle.open(folder / "b.tledge").train_files()}
    assert len(names) == 47
    assert not any("china/03" in name for name in names)


def test_an_image_of_one_pixel_is_an_image(folder: Path) -> None:
    from PIL import Image

    Image.new("RGB", (1, 1), "red").save(folder / "photos/train/china/dot.png")
    code, said = run(folder, "finetune", "photos", "-o", "b.tledge", *SMALL)
    assert code == 0, said
    code, said = run(folder, "predict", "b.tledge", "photos/train/china/dot.png")
    assert code == 0, said


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (shutil.rmtree, "photos"),
        (lambda root: [shutil.rmtree(root / part / "china") for part in ("train", "val")], "class"),
        (lambda root: [path.unlink() for path in (root / "train/china").iterdir()], "china"),
        (lambda root: shutil.rmtree(root / "val/china"), "china"),
    ],
    ids=["no such folder", "one class", "an empty class", "a class missing from val"],
)
def test_a_wrong_folder_is_explained(folder: Path, change: Callable[[Path], object], named: str) -> None:
    change(folder / "photos")
    for words in (("finetune", "photos", "-o", "b.tledge", *SMALL), ("audit", "photos", "--json")):
        code, said = run(folder, *words)
        assert code == 4
        assert named in said
    assert not (folder / "b.tledge").exists()


def test_an_unknown_backbone_names_the_nearest(folder: Path) -> None:
    code, said = run(folder, "finetune", "photos", "-o", "b.tledge", "--backbone", "efficientnet-lit0")
    assert code == 2
    assert "efficientnet-lite0" in said


def test_one_bad_image_among_good_ones_does_not_stop_predict(bundle: Path, folder: Path) -> None:
    truncated(folder / "photos/val/china/03.jpg")
    code, said = run(folder, "predict", str(bundle), "photos/val/china", "--json", "-q")
    assert code == 4
    answers = json.loads(said.splitlines()[0])["predictions"]
    assert len(answers) == 8
    assert [a["file"][-6:] for a in answers if a["error"]] == ["03.jpg"]


def test_a_damaged_or_newer_bundle_is_refused_by_every_command(bundle: Path, tmp_path: Path) -> None:
    commands = (["evaluate"], ["predict", "x.jpg"], ["inspect", "--verify"], ["calibrate"], ["bench"])
    damaged = tmp_path / "damaged.tledge"
    shutil.copytree(bundle, damaged)
    graph = bytearray((damaged / "fp32.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (damaged / "fp32.onnx").write_bytes(graph)
    newer = tmp_path / "newer.tledge"
    shutil.copytree(bundle, newer)
    manifest = json.loads((newer / "manifest.json").read_text())
    (newer / "manifest.json").write_text(json.dumps(manifest | {"schema": 2}))
    for place, named in ((damaged, "fp32.onnx"), (newer, "newer")):
        for first, *rest in commands:
            code, said = run(tmp_path, first, str(place), *rest)
            assert code == 6, (first, said)
            assert named in said


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that holds four mebibytes and no more."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this test mounts a file system, and may not here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_loses_nothing(bundle: Path, mounted: Path, folder: Path) -> None:
    small = mounted / "b.tledge"
    shutil.copytree(bundle, small)
    rest = shutil.disk_usage(mounted).free
    (mounted / "filler").write_bytes(b"\0" * (rest - 16384))
    code, said = run(folder, "calibrate", str(small), "photos", "--max-drop", "100")
    assert code == 3, said
    assert "disk is full" in said
    assert Bundle.open(small).problems() == ()
    assert Bundle.open(small).variants == ("fp32",)
    (mounted / "filler").unlink()


def test_a_place_that_may_not_be_written_is_said(bundle: Path, mounted: Path, folder: Path) -> None:
    shutil.copytree(bundle, mounted / "b.tledge")
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    code, said = run(folder, "finetune", "photos", "-o", str(mounted / "c.tledge"), *SMALL)
    assert code == 3, said
    assert "permission" in said
    code, said = run(folder, "evaluate", str(mounted / "b.tledge"))
    assert code == 3, said
    code, said = run(folder, "predict", str(mounted / "b.tledge"), "photos/val/china/00.jpg")
    assert code == 0, said


def onnx_graph(operator: str = "Flatten", shape: tuple[int, ...] = (1, 3, 4, 4)) -> bytes:
    """Return a small ONNX graph with one operator and one input of that shape."""
    from onnx import TensorProto, helper

    node = helper.make_node(operator, ["x"], ["y"], domain="" if operator == "Flatten" else "nobody.knows")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 48))],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("nobody.knows", 1)]
    data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return data


@pytest.mark.parametrize(
    "data",
    [
        lambda: onnx_graph()[:60],
        lambda: b"",
        lambda: b"hello world, not ONNX",
        lambda: onnx_graph(shape=(1, 48)),
        lambda: onnx_graph("Mystery"),
    ],
    ids=["cut in half", "0 bytes", "text", "no image input", "unknown operator"],
)
def test_a_bad_onnx_file_is_refused(bundle: Path, tmp_path: Path, data: Callable[[], bytes]) -> None:
    (tmp_path / "m.onnx").write_bytes(data())
    (tmp_path / "labels.txt").write_text("".join(f"{i}\n" for i in range(48)))
    shutil.copy(bundle / "preprocess.json", tmp_path)
    words = ("import", "m.onnx", "-o", "m.tledge", "--labels", "labels.txt", "--spec", "preprocess.json")
    code, said = run(tmp_path, *words)
    assert code == 4, said
    assert "m.onnx" in said
    assert not (tmp_path / "m.tledge").exists()
