"""Every layout is found, in a stated order of classes; what is wrong is named."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.images import encode, outcome, photo
from tledge.data import Dataset, decode, find, image_files, sample_at
from tledge.data.names import natural_key
from tledge.errors import InputError, MachineError

FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def grow(root: Path, tree: Mapping[str, int], suffix: str = ".png") -> Path:
    """Write so many different images into each folder."""
    for place, count in tree.items():
        (root / place).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            seed = zlib.crc32(f"{place} {index}".encode())
            (root / place / f"{index}{suffix}").write_bytes(encode(photo(8, 8, seed=seed)))
    return root


def names(dataset: Dataset, split: str) -> list[str]:
    return [sample.name for sample in dataset.splits[split]]


def test_splits_of_classes(tmp_path: Path) -> None:
    found = find(grow(tmp_path, {"train/a": 2, "train/b": 1, "val/b": 1, "val/a": 1}))
    assert found.kind == "folders"
    assert found.classes == ("a", "b")
    assert names(found, "train") == ["train/a/0.png", "train/a/1.png", "train/b/0.png"]
    assert [(s.name, s.label) for s in found.splits["val"]] == [("val/a/0.png", 0), ("val/b/0.png", 1)]
    assert found.scoring == "val"
    assert found.counts("train") == [2, 1]
    assert len(found.samples) == 5


def test_test_scores_where_there_is_one(tmp_path: Path) -> None:
    found = find(
        grow(tmp_path, {f"{split}/{name}": 1 for split in ("train", "val", "test") for name in "ab"})
    )
    assert tuple(found.splits) == ("train", "val", "test")
    assert found.scoring == "test"


def test_a_flat_folder_is_all_train(tmp_path: Path) -> None:
    found = find(grow(tmp_path, {"roses": 2, "tulips": 3}))
    assert found.kind == "flat"
    assert found.scoring is None
    assert list(found.splits) == ["train"]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    found = find(grow(tmp_path, {"car": 2, "train": 2, "plane": 1}))
    assert found.kind == "flat"
    assert found.classes == ("car", "plane", "train")


def test_val_goes_by_other_names_too_but_once(tmp_path: Path) -> None:
    grow(tmp_path, {"train/a": 1, "train/b": 1, "valid/a": 1, "valid/b": 1})
    assert find(tmp_path).scoring == "val"
    grow(tmp_path, {"Validation/a": 1, "Validation/b": 1})
    with pytest.raises(InputError, match="both the val split"):
        find(tmp_path)


def test_classes_stand_in_natural_order(tmp_path: Path) -> None:
    found = find(grow(tmp_path, dict.fromkeys(("10", "9", "1", "b2", "B10", "a", "01"), 1)))
    assert found.classes == ("01", "1", "9", "10", "a", "b2", "B10")


def test_classes_txt_wins(tmp_path: Path) -> None:
    grow(tmp_path, {"a": 1, "b": 1, "c": 1})
    (tmp_path / "classes.txt").write_text("\ufeffc\n\na\n b \n", encoding="utf-8")
    found = find(tmp_path)
    assert found.classes == ("c", "a", "b")
    assert [sample.label for sample in found.train] == [1, 2, 0]
    (tmp_path / "classes.txt").write_text("c\na\n")
    with pytest.raises(InputError, match=r"class 'b' of .* is not in classes.txt"):
        find(tmp_path)
    (tmp_path / "classes.txt").write_text("c\na\nb\nd\n")
    with pytest.raises(InputError, match="class 'd' has no images"):
        find(tmp_path)
    (tmp_path / "classes.txt").write_text("c\na\nb\na\n")
    with pytest.raises(InputError, match="'a' stands twice"):
        find(tmp_path)
    (tmp_path / "classes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"classes.txt cannot be read"):
        find(tmp_path)
    (tmp_path / "classes.txt").write_text("\n")
    with pytest.raises(InputError, match="lists no classes"):
        find(tmp_path)


def test_a_class_missing_from_one_split_is_named(tmp_path: Path) -> None:
    grow(tmp_path, {"train/a": 1, "train/b": 1, "train/c": 1, "val/a": 1, "val/b": 1})
    with pytest.raises(InputError, match=r"class 'c' has no images in .* \(val\), but has in train"):
        find(tmp_path)
    grow(tmp_path, {"val/c": 1, "val/d": 1, "val/e": 1})
    with pytest.raises(InputError, match=r"2 classes 'd', 'e' have no images in .* \(train\)"):
        find(tmp_path)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    grow(tmp_path, {"a": 1, "b": 1, "c": 0})
    with pytest.raises(InputError, match=r"no images in .*c"):
        find(tmp_path)
    (tmp_path / "c" / "x.heic").write_bytes(b"heic")
    with pytest.raises(InputError, match=r"no images in .*c \(1 files of other kinds\)"):
        find(tmp_path)


def test_one_class_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only one class, 'a'") as caught:
        find(grow(tmp_path, {"a": 3}))
    assert "DATA/CLASS" in caught.value.hint


def test_no_images_no_folder_no_csv(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images in"):
        find(tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        find(tmp_path / "nowhere")
    (tmp_path / "x.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="is a file"):
        find(tmp_path / "x.jpg")


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(tmp_path, {"a": 1, "b": 1})

    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(MachineError, match="no permission to read"):
        find(tmp_path)


def test_hidden_and_other_files_are_left_and_listed(tmp_path: Path) -> None:
    grow(tmp_path, {"a": 1, "b": 1, "a/.thumbs": 1, "__MACOSX/a": 1, ".git": 1, "a/deeper/still": 1})
    for name in ("a/._0.png", "a/notes.txt", "b/IMG.HEIC", "a/.DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b" / "UPPER.JPG").write_bytes(encode(photo(), "JPEG"))
    found = find(tmp_path)
    assert found.classes == ("a", "b")
    assert names(found, "train") == ["a/0.png", "a/deeper/still/0.png", "b/0.png", "b/UPPER.JPG"]
    assert found.ignored == ("a/notes.txt", "b/IMG.HEIC")
    grow(tmp_path, {"unlabelled/x": 1, "train/a": 1, "train/b": 1})
    assert "unlabelled/" in find(tmp_path).ignored


def test_links_are_followed_once(tmp_path: Path) -> None:
    grow(tmp_path / "store", {"a": 1})
    root = grow(tmp_path / "data", {"b": 1})
    (root / "a").symlink_to(tmp_path / "store" / "a")
    (root / "b" / "loop").symlink_to(root / "b")
    assert names(find(root), "train") == ["a/0.png", "b/0.png"]


def test_letters_that_file_systems_compose_differently_are_one_class(tmp_path: Path) -> None:
    found = find(grow(tmp_path, {"train/caf\u00e9": 1, "train/tea": 1, "val/cafe\u0301": 1, "val/tea": 1}))
    assert found.classes == ("caf\u00e9", "tea")


def test_names_that_a_bundle_could_not_hold(tmp_path: Path) -> None:
    grow(tmp_path, {"a": 1, "b": 1, "c\nd": 1})
    with pytest.raises(InputError, match=r"'c\\nd' cannot be the name of a class"):
        find(tmp_path)
    other = grow(tmp_path / "other", {"a": 1, "b": 1})
    (other / "a" / "\udcff.png").write_bytes(encode(photo()))
    with pytest.raises(InputError, match="not UTF-8"):
        find(other)


def test_known_labels_need_no_complete_folder(tmp_path: Path) -> None:
    grow(tmp_path, {"bee": 2})
    found = find(tmp_path, labels=("ant", "bee"))
    assert found.classes == ("ant", "bee")
    assert [sample.label for sample in found.samples] == [1, 1]
    with pytest.raises(InputError, match=r"'bee' of .* is not in the bundle's labels") as caught:
        find(tmp_path, labels=("ant", "beet"))
    assert "beet" in caught.value.hint


@given(st.lists(st.text(max_size=12), max_size=12))
def test_natural_order_is_a_total_order(words: list[str]) -> None:
    ordered = sorted(words, key=natural_key)
    words.reverse()
    assert sorted(words, key=natural_key) == ordered
    assert sorted(ordered) == sorted(words)


@given(st.text("abc", max_size=3), st.integers(0, 10**30), st.integers(0, 10**30))
def test_numbers_count_as_numbers(stem: str, first: int, second: int) -> None:
    small, large = sorted((first, second))
    if small < large:
        assert natural_key(f"{stem}{small}x") < natural_key(f"{stem}{large}a")


# CSV


def csv_file(root: Path, text: str | bytes) -> Path:
    grow(root, {"pictures": 4})
    path = root / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_csv_with_splits(tmp_path: Path) -> None:
    text = (
        "\ufefflabel, path ,note,split\r\n"
        "10,pictures/0.png,x,train\r\n"
        '2,"pictures/1.png",,train\r\n'
        "\r\n"
        "2,pictures/2.png,,VAL\r\n"
        f"10,{tmp_path}/pictures/3.png,,validation\r\n"
    )
    found = find(csv_file(tmp_path, text))
    assert found.kind == "csv"
    assert found.root == tmp_path
    assert found.classes == ("2", "10")
    assert [(s.name, s.label) for s in found.splits["train"]] == [
        ("pictures/0.png", 1),
        ("pictures/1.png", 0),
    ]
    assert names(found, "val") == ["pictures/2.png", "pictures/3.png"]
    for sample in found.samples:
        assert sample_at(found.root, sample.name).read() == sample.read()


def test_csv_without_splits_is_flat(tmp_path: Path) -> None:
    found = find(csv_file(tmp_path, "path,label\npictures/0.png,a\npictures/1.png,b\n"))
    assert list(found.splits) == ["train"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has the columns"),
        ("path,split\nx,train\n", "has the columns"),
        ("path,label,label\nx,a,b\n", "has the columns"),
        ("path,label\n", "no images"),
        ("path,label\n,a\n", "line 2: no path"),
        ("path,label\nx.png,\n", "empty class name in .*line 2"),
        ("path,label\nx.png,a,b\n", "line 2: 3 cells under 2 columns"),
        ("path,label\nx.png,a\nx.png,b\n", "lists x.png twice, in lines 2 and 3"),
        ("path,label,split\nx.png,a,trian\n", "line 2: unknown split 'trian'"),
        ("path,label,split\nx.png,a,train\ny.png,b,\n", "1 of 2 lines give no split"),
        ("path,label\nx.png,a\ny.png,a\n", "only one class"),
        ('path,label\n"x.png,a\n', "cannot be read as CSV"),
        (b"path,label\n\xff.png,a\n", "cannot be read as CSV in UTF-8"),
        (b"path,label\nx\0.png,a\n", "zero byte|cannot be read as CSV"),
        ("path,label,split\nx,a,train\ny,b,train\nz,a,val\n", "class 'b' has no images in .*val"),
    ],
)
def test_what_is_wrong_with_a_csv(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find(csv_file(tmp_path, text))


def test_a_file_that_a_csv_names_in_vain_is_found_when_it_is_read(tmp_path: Path) -> None:
    found = find(csv_file(tmp_path, "path,label\npictures/0.png,a\nno.png,b\n"))
    with pytest.raises(InputError, match=r"no\.png cannot be read: No such file"):
        found.train[1].read()


@given(text=st.one_of(st.text(max_size=200), st.text('pathlbe,\n"\r spit', max_size=200)), head=st.booleans())
@FUZZ
def test_any_csv_is_read_or_refused(tmp_path: Path, text: str, head: bool) -> None:
    path = tmp_path / "fuzz.csv"
    path.write_bytes((("path,label,split\n" if head else "") + text).encode("utf-8", "surrogatepass"))
    found, error = outcome(lambda: find(path))
    assert len(found.classes) >= 2 if error is None else str(tmp_path) in error.message


# IDX


def idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def write_idx(root: Path, packed: bool = False, mark: str = "-") -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 5, 4), np.uint8)
    labels = (np.arange(12) % 3).astype(np.uint8)
    for split, part in (("train", slice(0, 9)), ("t10k", slice(9, 12))):
        for what, values in (("images", pixels[part]), ("labels", labels[part])):
            name = f"{split}-{what}{mark}idx{values.ndim}-ubyte"
            data = idx(values)
            (root / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    return pixels


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", ["-", "."])
def test_idx_files(tmp_path: Path, packed: bool, mark: str) -> None:
    pixels = write_idx(tmp_path, packed, mark)
    found = find(tmp_path)
    assert found.kind == "idx"
    assert found.classes == ("0", "1", "2")
    assert [len(found.splits[split]) for split in ("train", "test")] == [9, 3]
    assert found.scoring == "test"
    for sample, expected in zip(found.samples, pixels, strict=True):
        again = sample_at(tmp_path, sample.name, sample.label)
        assert again == sample
        decoded = decode.image(again.read(), name=sample.name)
        np.testing.assert_array_equal(decoded, np.repeat(expected[..., None], 3, axis=2))


def test_idx_classes_have_names_where_they_are_listed(tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / "classes.txt").write_text("shirt\nbag\ncoat\n")
    assert find(tmp_path).classes == ("shirt", "bag", "coat")
    (tmp_path / "classes.txt").write_text("shirt\nbag\n")
    with pytest.raises(InputError, match="has the label 2, and only 2 classes"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("train-images-idx3-ubyte", b"", "begins with nothing"),
        ("train-images-idx3-ubyte", idx(np.zeros((9, 5), np.uint8)), "no IDX file of unsigned bytes with 3"),
        (
            "train-images-idx3-ubyte",
            idx(np.zeros((9, 5, 4), np.uint8))[:-1],
            "says 9 x 5 x 4 bytes and has 179",
        ),
        ("train-images-idx3-ubyte", idx(np.zeros((9, 5, 4), np.uint8)) + b"x", "has more than 180"),
        ("train-images-idx3-ubyte", b"\0\0\x0d\x03" + bytes(12), "no IDX file"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03" + b"\xff" * 12, "bytes and has 0"),
        ("train-images-idx3-ubyte", idx(np.zeros((9, 0, 4), np.uint8)), "says 9 x 0 x 4 bytes and has 0"),
        ("train-labels-idx1-ubyte", idx(np.zeros(8, np.uint8)), "has 9 images, and .* 8 labels"),
        ("train-labels-idx1-ubyte.gz", b"", "the same file twice"),
        ("val-labels-idx1-ubyte", b"", "without its images"),
    ],
)
def test_what_is_wrong_with_idx_files(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    write_idx(tmp_path)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=words):
        find(tmp_path)


def test_a_damaged_gzip_is_named(tmp_path: Path) -> None:
    write_idx(tmp_path, packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for data in (whole[: len(whole) // 2], b"\x1f\x8b rubbish", whole[:12] + bytes(40) + whole[52:]):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz"):
            find(tmp_path)


@given(data=st.binary(max_size=120), start=st.integers(0, 16), label=st.booleans())
@FUZZ
def test_any_idx_file_is_read_or_refused(tmp_path: Path, data: bytes, start: int, label: bool) -> None:
    write_idx(tmp_path)
    path = tmp_path / ("train-labels-idx1-ubyte" if label else "train-images-idx3-ubyte")
    path.write_bytes(path.read_bytes()[:start] + data)
    found, error = outcome(lambda: find(tmp_path))
    assert found.kind == "idx" if error is None else str(tmp_path) in error.message


def test_a_record_that_is_gone(tmp_path: Path) -> None:
    write_idx(tmp_path)
    with pytest.raises(InputError, match="no number 9"):
        sample_at(tmp_path, "train-images-idx3-ubyte#9").read()
    with pytest.raises(InputError, match="cannot be read"):
        sample_at(tmp_path, "no-such-file#9").read()
    (tmp_path / "a#1").write_bytes(b"a file may have such a name")
    assert sample_at(tmp_path, "a#1").read().startswith(b"a file")


# CIFAR


def write_cifar(root: Path, count: int = 4) -> np.ndarray:
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (3 * count, 32, 32, 3), np.uint8)
    for part, name in enumerate(("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin")):
        planes = pixels[part * count : (part + 1) * count].transpose(0, 3, 1, 2).reshape(count, -1)
        labels = (np.arange(count) % 2).astype(np.uint8)[:, None]
        (root / name).write_bytes(np.hstack([labels, planes]).tobytes())
    return pixels


def test_cifar_files(tmp_path: Path) -> None:
    pixels = write_cifar(tmp_path)
    assert find(tmp_path).classes == ("0", "1")
    (tmp_path / "batches.meta.txt").write_text("cat\ndog\n\n")
    found = find(tmp_path)
    assert found.kind == "cifar"
    assert found.classes == ("cat", "dog")
    assert [len(found.splits[split]) for split in ("train", "test")] == [8, 4]
    assert found.train[4].name == "data_batch_2.bin#0"
    for sample, expected in zip(found.samples, pixels, strict=True):
        np.testing.assert_array_equal(decode.image(sample_at(tmp_path, sample.name).read()), expected)


@pytest.mark.parametrize("data", [b"", bytes(3072), bytes(3074)])
def test_what_is_wrong_with_cifar_files(tmp_path: Path, data: bytes) -> None:
    write_cifar(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(data)
    with pytest.raises(InputError, match=r"test_batch\.bin is no CIFAR-10 binary file"):
        find(tmp_path)


@given(labels=st.lists(st.integers(0, 255), min_size=1, max_size=5), extra=st.sampled_from([0, 0, 1, 3072]))
@FUZZ
def test_any_cifar_file_is_read_or_refused(tmp_path: Path, labels: list[int], extra: int) -> None:
    write_cifar(tmp_path)
    data = b"".join(bytes((label,)) + bytes(3072) for label in labels) + bytes(extra)
    (tmp_path / "test_batch.bin").write_bytes(data)
    _, error = outcome(lambda: find(tmp_path))
    assert set(labels) == {0, 1} if error is None else str(tmp_path) in error.message


@pytest.mark.parametrize(("name", "train", "val"), [("flowers", 2934, 736), ("gtsrb", 3559, 880)])
def test_real_folders(shared_data: Path, name: str, train: int, val: int) -> None:
    found = find(shared_data / name)
    assert [len(found.splits[split]) for split in ("train", "val")] == [train, val]
    assert not found.ignored
    assert len(image_files(shared_data / name)) == train + val
