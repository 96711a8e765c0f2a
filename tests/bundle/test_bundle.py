"""A bundle is written whole or not at all, refuses what was changed, and is never written by two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tledge.bundle import Bundle, Row
from tledge.bundle.files import write_atomic
from tledge.bundle.manifest import Manifest, safe_name
from tledge.errors import BundleError, InputError, MachineError, TledgeError, UsageError


def row(stage: str = "torch", top1: float = 90.0) -> Row:
    return Row(
        stage, None, None, "torch", "cpu", 10, top1, 80.0, 95.0, 100.0, None, None, None, "d" * 64, "f" * 64
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    made = Bundle.create(tmp_path / "a.tledge")
    with made.writing() as writer:
        writer.put("labels.txt", b"cat\ndog\n")
        writer.put("eval/ab.jpg", b"pixels")
        writer.row(row())
        writer.commit("finetune", settings={"seed": 1}, seconds=0.5)
        return writer.finish()


def test_what_was_written_is_read_back(bundle: Bundle) -> None:
    assert bundle.state == "finished"
    assert bundle.labels == ("cat", "dog")
    assert bundle.read("eval/ab.jpg") == b"pixels"
    assert bundle.file("eval/ab.jpg").read_bytes() == b"pixels"
    assert bundle.ledger == (row(),)
    assert bundle.settings["finetune"] == {"seed": 1}
    assert bundle.lineage[0]["made"]["labels.txt"] == bundle.sha256("labels.txt")
    assert bundle.problems() == ()


def test_a_row_replaces_the_row_of_its_stage_in_place(bundle: Bundle) -> None:
    with bundle.writing() as writer:
        writer.row(row("fp32@onnxruntime"))
        writer.row(row("torch", 91.0))
        again = writer.commit("evaluate")
    assert [(r.stage, r.top1) for r in again.ledger] == [("torch", 91.0), ("fp32@onnxruntime", 90.0)]


@pytest.mark.parametrize("change", [lambda data: data + b"x", lambda data: b"", lambda data: b"X" + data[1:]])
def test_a_changed_byte_is_noticed(bundle: Bundle, change) -> None:
    path = bundle.path / "labels.txt"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BundleError, match=r"labels\.txt"):
        Bundle.open(bundle.path).read("labels.txt")


def test_a_missing_file_and_a_missing_manifest_are_named(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.path / "labels.txt").unlink()
    with pytest.raises(BundleError, match=r"labels\.txt is missing"):
        Bundle.open(bundle.path)
    with pytest.raises(InputError, match="no such bundle"):
        Bundle.open(tmp_path / "none.tledge")
    with pytest.raises(BundleError, match="not a tledge bundle"):
        Bundle.open(tmp_path)
    (tmp_path / "file.tledge").write_text("x")
    with pytest.raises(BundleError, match="not a tledge bundle"):
        Bundle.open(tmp_path / "file.tledge")


def test_a_newer_schema_is_refused(bundle: Bundle) -> None:
    manifest = bundle.path / "manifest.json"
    body = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(body | {"schema": 99}))
    with pytest.raises(BundleError, match="schema 99") as error:
        Bundle.open(bundle.path)
    assert "newer" in error.value.hint


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["format", "schema", "state", "files", "settings", "lineage", "x"]), inner
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_manifest_crashes_the_reader(data: bytes) -> None:
    with pytest.raises(TledgeError):
        Manifest.from_json(data, "manifest.json")


@given(st.text(max_size=12))
def test_safe_names_stay_inside(name: str) -> None:
    if safe_name(name):
        assert os.path.normpath(f"/b/{name}") == f"/b/{name}"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/etc/passwd", "../x", "a/../b", "a//b", ".lock", "a/.b", "a\\b", "a\0b", "./a"]
)
def test_unsafe_names_are_refused(bundle: Bundle, name: str) -> None:
    assert not safe_name(name)
    with bundle.writing() as writer, pytest.raises(BundleError):
        writer.put(name, b"")


def test_nothing_staged_is_real_before_commit(bundle: Bundle) -> None:
    def interrupted() -> None:
        with bundle.writing() as writer:
            writer.put("labels.txt", b"other\n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert Bundle.open(bundle.path).labels == ("cat", "dog")
    assert not (bundle.path / ".pending").exists()


def test_removal_is_part_of_the_commit(bundle: Bundle) -> None:
    with bundle.writing() as writer:
        writer.remove("eval/ab.jpg")
        writer.commit("evaluate")
    assert not Bundle.open(bundle.path).has("eval/ab.jpg")
    assert not (bundle.path / "eval/ab.jpg").exists()


def test_a_second_writer_is_refused(bundle: Bundle) -> None:
    script = f"from tledge.bundle import Bundle\nwith Bundle.open({str(bundle.path)!r}).writing(): pass"
    with bundle.writing():
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "is being written by another process (pid" in result.stderr
    with bundle.writing():
        pass


def test_creation_refuses_what_is_in_the_way(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a finished bundle") as error:
        Bundle.create(bundle.path)
    assert "--force" in error.value.hint
    unfinished = Bundle.create(tmp_path / "b.tledge")
    assert Bundle.create(unfinished.path).names == ()  # it holds nothing yet
    with unfinished.writing() as writer:
        writer.put("labels.txt", b"a\nb\n")
        writer.commit("finetune")
    with pytest.raises(UsageError, match="an unfinished bundle") as error:
        Bundle.create(unfinished.path)
    assert "--resume" in error.value.hint
    assert Bundle.create(unfinished.path, resume=True).state == "unfinished"
    (tmp_path / "holiday").mkdir()
    with pytest.raises(UsageError, match="is no bundle"):
        Bundle.create(tmp_path / "holiday", force=True)


def test_a_forced_bundle_replaces_the_old_one_only_when_it_is_finished(bundle: Bundle) -> None:
    fresh = Bundle.create(bundle.path, force=True)
    with fresh.writing() as writer:
        writer.put("labels.txt", b"new\n")
        writer.commit("finetune")
        assert Bundle.open(bundle.path).labels == ("cat", "dog")
        done = writer.finish()
    assert done.path == bundle.path
    assert Bundle.open(bundle.path).labels == ("new",)
    assert [p.name for p in bundle.path.parent.iterdir()] == [bundle.path.name]


def test_no_permission_and_a_full_disk_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "x", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match="disk is full"):
        write_atomic(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_killed_at_any_moment_the_bundle_opens_and_holds_the_old_or_the_new(bundle: Bundle) -> None:
    """The process is killed at each of its file-system calls in turn, from the first to the last."""
    script = textwrap.dedent(
        f"""
        import os, signal, sys
        left = int(sys.argv[1])
        def armed(call):
            def counted(*a, **k):
                global left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*a, **k)
            return counted
        from pathlib import Path
        for name in ("fsync", "replace", "unlink", "mkdir"):
            setattr(os, name, armed(getattr(os, name)))
        Path.replace, Path.unlink, Path.mkdir = armed(Path.replace), armed(Path.unlink), armed(Path.mkdir)
        from tledge.bundle import Bundle
        with Bundle.open({str(bundle.path)!r}).writing() as writer:
            writer.put("labels.txt", b"new\\n")
            writer.put("deep/er/file.bin", b"1" * 100)
            writer.remove("eval/ab.jpg") if "eval/ab.jpg" in Bundle.open({str(bundle.path)!r}).names else None
            writer.commit("calibrate")
        """
    )
    seen = set()
    for step in range(1, 60):
        code = subprocess.run([sys.executable, "-c", script, str(step)], check=False).returncode
        opened = Bundle.open(bundle.path)
        assert opened.problems() == ()
        seen.add(opened.labels)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        if opened.labels == ("new",):
            with opened.writing() as writer:  # back to the old state, finishing what the dead process began
                writer.put("labels.txt", b"cat\ndog\n")
                writer.put("eval/ab.jpg", b"pixels")
                writer.commit("back")
    assert code == 0
    assert seen == {("cat", "dog"), ("new",)}
