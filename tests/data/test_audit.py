"""The audit finds what was planted, names it, and leaves out what must not be trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.data.images import encode, exif, outcome, photo
from tledge.data import find, likeness
from tledge.data.audit import audit, gate, left_out, usable
from tledge.data.dataset import Sample
from tledge.data.inspection import inspect
from tledge.errors import InputError


def grow(root: Path, per_class: int = 6, splits: tuple[str, ...] = ("train", "val")) -> Path:
    for number, split in enumerate(splits):
        for label, name in enumerate(("ants", "bees")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(per_class):
                seed = 10000 * number + 1000 * label + index
                (folder / f"{index}.png").write_bytes(encode(photo(seed=seed)))
    return root


def test_sound_data_have_nothing_wrong(tmp_path: Path) -> None:
    dataset = find(grow(tmp_path))
    found = audit(dataset)
    assert found.images == 24
    for findings in (found.unreadable, found.exact, found.near, found.few, found.small, found.long):
        assert not findings
    assert found.counts == {"train": {"ants": 6, "bees": 6}, "val": {"ants": 6, "bees": 6}}
    assert found.sides == (44, 44, 44)
    assert len(found.sha256) == 24
    assert "nothing wrong" in found.text()
    assert gate(dataset, found) == ()
    assert usable(dataset, found) == dataset


def test_every_damaged_file_is_named(tmp_path: Path) -> None:
    root = grow(tmp_path)
    bees = root / "train" / "bees"
    jpeg = encode(photo(400, 300), "JPEG")
    damaged = {
        "cut.jpg": jpeg[: len(jpeg) * 3 // 4],
        "text.jpg": b"just a text",
        "empty.png": b"",
        "float.tif": encode(Image.fromarray(np.zeros((40, 40), np.float32)), "TIFF"),
    }
    for name, data in damaged.items():
        (bees / name).write_bytes(data)
    (bees / "gone.png").symlink_to("nowhere")
    found = audit(find(root))
    assert {name for name, _ in found.unreadable} == {f"train/bees/{name}" for name in (*damaged, "gone.png")}
    for name, reason in found.unreadable:
        assert reason.startswith(name)
        assert name in found.text()


@pytest.mark.parametrize("progressive", [False, True])
def test_reduced_decoding_misses_no_cut(tmp_path: Path, progressive: bool) -> None:
    whole = encode(photo(200, 160), "JPEG", progressive=progressive)
    for length in range(2, len(whole) - 1, len(whole) // 40):
        path = tmp_path / "x.jpg"
        path.write_bytes(whole[:length])
        assert inspect(Sample("x.jpg", 0, path)).error is not None, length


def test_duplicates_and_leaks(tmp_path: Path) -> None:
    root = grow(tmp_path)
    same = (root / "val" / "ants" / "0.png").read_bytes()
    (root / "train" / "ants" / "leak.png").write_bytes(same)
    (root / "train" / "bees" / "wrong.png").write_bytes(same)
    (root / "train" / "bees" / "twice.png").write_bytes((root / "train" / "bees" / "1.png").read_bytes())
    jpeg = encode(Image.fromarray(photo(seed=11000)).resize((120, 88)), "JPEG", quality=70)  # val/bees/0.png
    (root / "train" / "bees" / "again.jpg").write_bytes(jpeg)
    dataset = find(root)
    found = audit(dataset)
    assert set(found.across) == {
        ("train/ants/leak.png", "val/ants/0.png"),
        ("train/bees/wrong.png", "val/ants/0.png"),
    }
    assert found.conflicting == (("train/ants/leak.png", "train/bees/wrong.png", "val/ants/0.png"),)
    assert ("train/bees/1.png", "train/bees/twice.png") in found.exact
    assert found.near == found.near_across == (("train/bees/again.jpg", "val/bees/0.png"),)
    assert set(left_out(found)) == {"train/ants/leak.png", "train/bees/wrong.png"}
    rest = usable(dataset, found)
    assert len(rest.train) == len(dataset.train) - 2
    assert rest.splits["val"] == dataset.splits["val"]


def test_val_that_stands_in_test_is_left_out_too(tmp_path: Path) -> None:
    root = grow(tmp_path, splits=("train", "val", "test"))
    same = (root / "test" / "ants" / "0.png").read_bytes()
    for split in ("train", "val"):
        (root / split / "ants" / "leak.png").write_bytes(same)
    assert set(left_out(audit(find(root)))) == {"train/ants/leak.png", "val/ants/leak.png"}


def test_the_gate(tmp_path: Path) -> None:
    root = grow(tmp_path, per_class=60)
    dataset = find(root)
    for count, refused in ((1, False), (2, False), (3, True)):
        (root / "train" / "ants" / f"{count}.png").write_bytes(b"x")
        found = audit(dataset, near=False)
        lines, error = outcome(lambda found=found: gate(dataset, found))
        assert (error is not None) == refused
        assert lines is None or len(lines) == count
        assert len(gate(dataset, found, skip_bad=True)) == count
    assert "3 of 240 images cannot be used (train/ants/1.png is not an image" in error.message
    assert "--skip-bad" in error.hint


def test_a_class_that_would_be_empty(tmp_path: Path) -> None:
    root = grow(tmp_path, per_class=300)
    for name in ("cats", "dogs"):
        for split in ("train", "val"):
            (root / split / name).mkdir()
            (root / split / name / "only.png").write_bytes(encode(photo(seed=5000 + len(name + split))))
    (root / "train" / "cats" / "only.png").write_bytes(b"")
    (root / "val" / "dogs" / "only.png").write_bytes(b"")
    dataset = find(root)
    found = audit(dataset, near=False)
    with pytest.raises(InputError, match="leaves no images of 'cats' in train, 'dogs' in val"):
        gate(dataset, found)
    assert "left out: the whole of 'cats' in train" in gate(dataset, found, skip_bad=True)
    rest = usable(dataset, found)
    assert rest.classes == ("ants", "bees", "dogs")
    assert rest.counts("train") == [300, 300, 1]
    assert rest.counts("val") == [300, 300, 0]
    assert {s.name.split("/")[1]: rest.classes[s.label] for s in rest.samples} == {n: n for n in rest.classes}


def test_too_few_classes_are_left(tmp_path: Path) -> None:
    root = grow(tmp_path, per_class=1)
    (root / "train" / "ants" / "0.png").write_bytes(b"")
    dataset = find(root)
    with pytest.raises(InputError, match="can be used in 1 of its classes only"):
        usable(dataset, audit(dataset))


def test_oddities_are_counted(tmp_path: Path) -> None:
    root = grow(tmp_path)
    ants = root / "train" / "ants"
    image = Image.fromarray(photo(seed=99))
    odd = {
        "grey.png": encode(image.convert("L")),
        "alpha.png": encode(image.convert("RGBA")),
        "palette.gif": encode(image.quantize(16), "GIF"),
        "deep.png": encode(photo()[..., 0].astype(np.uint16) << 8),
        "cmyk.jpg": encode(image.convert("CMYK"), "JPEG"),
        "turned.jpg": encode(image, "JPEG", exif=exif(6)),
        "tiny.png": encode(photo(5, 5)),
        "long.png": encode(photo(400, 50)),
    }
    for name, data in odd.items():
        (ants / name).write_bytes(data)
    (ants / "readme.txt").write_text("x")
    found = audit(find(root), near=False)
    modes = {"RGB": 27, "grey": 1, "RGB with alpha": 1, "palette": 1, "16-bit": 1, "CMYK": 1}
    assert found.modes == modes
    assert found.rotated == 1
    assert found.small == ("train/ants/tiny.png",)
    assert found.long == ("train/ants/long.png",)
    assert found.ignored == {".txt": 1}
    assert found.kinds == {"PNG": 29, "JPEG": 2, "GIF": 1}
    for words in ("1 CMYK", "turned by EXIF", "1 .txt", "tiny.png", "long.png"):
        assert words in found.text()


def test_small_classes_and_imbalance(tmp_path: Path) -> None:
    root = grow(tmp_path, per_class=40)
    (root / "train" / "cats").mkdir()
    (root / "val" / "cats").mkdir()
    for split, count in (("train", 2), ("val", 4)):
        for index in range(count):
            (root / split / "cats" / f"{index}.png").write_bytes(
                encode(photo(seed=5000 + 10 * count + index))
            )
    found = audit(find(root), near=False)
    assert found.few == (("train", "cats", 2), ("val", "cats", 4))
    assert found.imbalance == 20
    assert "20 times the smallest" in found.text()


def test_the_audit_is_json(tmp_path: Path) -> None:
    root = grow(tmp_path)
    (root / "train" / "ants" / "bad.png").write_bytes(b"")
    document = json.loads(json.dumps(audit(find(root)).as_dict()))
    assert document["images"] == 25
    assert document["unreadable"] == [
        {"file": "train/ants/bad.png", "reason": "train/ants/bad.png is empty (0 bytes)"}
    ]
    assert document["duplicates"]["near_complete"] is True


def test_alike_survives_what_copies_go_through() -> None:
    original = Image.fromarray(photo(300, 200, seed=5))
    copies = [
        original,
        original.resize((150, 100)),
        original.convert("L").convert("RGB"),
        Image.fromarray((np.asarray(original) * 0.8 + 20).astype(np.uint8)),
        Image.fromarray(photo(300, 200, seed=6)),
    ]
    pictures = [likeness.thumbnail(np.asarray(copy.convert("L"))) for copy in copies]
    assert likeness.alike(pictures) == [(i, j) for i in range(4) for j in range(i + 1, 4)]
    assert likeness.alike([]) == []


def test_flat_pictures_are_alike_only_in_the_same_grey() -> None:
    flat = [np.full((32, 32), value, np.uint8) for value in (7, 7, 9)]
    assert likeness.alike(flat) == [(0, 1)]


def test_pairs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "MOST", 50)
    assert len(likeness.alike([likeness.thumbnail(photo()[..., 0])] * 40)) == 50


@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 255))
def test_thumbnails_of_any_size(height: int, width: int, value: int) -> None:
    picture = likeness.thumbnail(np.full((height, width), value, np.uint8))
    assert picture.shape == (32, 32)
    assert (picture == value).all()


def test_a_turned_copy_is_the_same_image(tmp_path: Path) -> None:
    upright = Image.fromarray(photo(160, 120, seed=3))
    turned = encode(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif(6))
    facts = []
    for name, data in (("a.png", encode(upright)), ("b.png", turned)):
        (tmp_path / name).write_bytes(data)
        facts.append(inspect(Sample(name, 0, tmp_path / name)))
    assert facts[0].picture is not None
    assert facts[1].picture is not None
    np.testing.assert_array_equal(facts[0].picture, facts[1].picture)


def test_flowers(shared_data: Path) -> None:
    """Seven of its photos stand in train and in val, scaled or recoloured; each pair was looked at."""
    found = audit(find(shared_data / "flowers"))
    assert not found.unreadable
    assert len(found.exact) == 3
    assert len(found.near) == 12
    assert len(found.near_across) == 7
    assert found.conflicting == (
        ("train/roses/15922772266_1167a06620.jpg", "train/tulips/15922772266_1167a06620.jpg"),
    )
