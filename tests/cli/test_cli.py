"""Words in, words out: exit codes, JSON documents, settings files, what a user sees when it goes wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tledge.bundle import Bundle
from tledge.cli import COMMANDS, LazyGroup, cli
from tledge.cli.failure import guarded
from tledge.cli.options import Output, columns, subcommand
from tledge.errors import AccuracyError, BundleError, LatencyError, TledgeError


def run(*words: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = guarded(cli, [str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    made = Bundle.create(tmp_path / "a.tledge")
    with made.writing() as writer:
        writer.put("labels.txt", b"cat\ndog\n")
        writer.commit("finetune", settings={"seed": 1})
        writer.finish()
    return made.path


def test_every_command_has_help_and_the_common_options(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        code, out, _ = run(name, "--help", capsys=capsys)
        assert code == 0
        for option in ("--json", "--config", "--verbose", "--quiet"):
            assert option in out, (name, option)


def test_help_lists_every_command_and_version_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run("--help", capsys=capsys)
    assert code == 0
    assert all(f"  {name} " in out for name in COMMANDS)
    assert run("--version", capsys=capsys)[0] == 0


def test_inspect_answers_in_text_and_in_one_json_document(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run("inspect", bundle, "--verify", capsys=capsys)
    assert code == 0
    assert "every hash is right" in out
    code, out, err = run("inspect", bundle, "--json", capsys=capsys)
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["labels"] == ["cat", "dog"]
    assert document["preprocessing"] is None


def test_a_changed_byte_is_exit_6_and_names_the_file(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bundle / "labels.txt").write_bytes(b"cat\ndoG\n")
    code, out, err = run("inspect", bundle, "--verify", "--json", capsys=capsys)
    assert code == 6
    body = json.loads(out)["error"]
    assert body["kind"] == "bundle"
    assert "labels.txt" in body["message"]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["inspct", "x"], 2, "inspect"),
        (["inspect"], 2, "--help"),
        (["inspect", "x", "--verfy"], 2, "--verify"),
        (["inspect", "nowhere.tledge"], 4, "finetune"),
        (["inspect", "."], 6, "bundle"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    words: list[str], code: int, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, err = run(*words, capsys=capsys)
    assert (found, out) == (code, "")
    assert hint in err
    assert "Traceback" not in err
    found, out, _ = run(*words, "--json", capsys=capsys)
    assert found == code
    assert set(json.loads(out)["error"]) == {"kind", "message", "hint", "path"}


def failing(error: BaseException) -> click.Group:
    group = LazyGroup("tledge")

    @subcommand("inspect")
    def fails(output: Output) -> None:
        raise error

    group.get_command = lambda context, name: fails  # type: ignore[method-assign]
    return group


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("x"), 1),
        (TledgeError("x"), 1),
        (MemoryError(), 3),
        (AccuracyError("x"), 5),
        (BundleError("x"), 6),
        (LatencyError("x"), 7),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(failing(error), ["inspect"]) == code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("finetune", "interrupted; the same command with --resume goes on"),
        ("predict", "interrupted"),
    ],
)
def test_who_is_interrupted_is_told_how_to_go_on_if_that_can_be(
    name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(failing(KeyboardInterrupt()), [name]) == 130
    assert capsys.readouterr().err.strip() == f"tledge: {said}"
    options = {name for one in cli.get_command(None, name).params for name in one.opts}  # type: ignore[arg-type,union-attr]
    assert ("--resume" in said) == ("--resume" in options)


def test_a_fault_of_ours_is_called_one_and_vv_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(failing(ZeroDivisionError("oops")), ["inspect"]) == 1
    assert "a fault of tledge: ZeroDivisionError" in capsys.readouterr().err
    assert guarded(failing(ZeroDivisionError("oops")), ["inspect", "-vv"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_settings_come_from_a_file_and_flags_win(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tledge.toml"
    config.write_text("[inspect]\nverify = true\n[finetune]\nepochs = 3\n")
    assert "every hash" in run("inspect", bundle, "--config", config, capsys=capsys)[1]
    config.write_text("verify = true\n")
    assert "every hash" in run("inspect", bundle, "--config", config, capsys=capsys)[1]


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("verfy = true", 2, "verify"),
        ("[inspekt]\nverify = true", 2, "inspect"),
        ("verify = ", 4, "TOML"),
        ("[inspect]\nverify = 'maybe'", 2, "maybe"),
    ],
)
def test_a_wrong_settings_file_is_explained(
    bundle: Path, tmp_path: Path, text: str, code: int, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tledge.toml"
    config.write_text(text)
    found, _, err = run("inspect", bundle, "--config", config, capsys=capsys)
    assert found == code
    assert named in err
    assert run("inspect", bundle, "--config", tmp_path / "none.toml", capsys=capsys)[0] == 4


def test_sigterm_ends_with_143(tmp_path: Path) -> None:
    script = (
        "import time, click\nfrom tledge.cli.failure import guarded\n"
        "@click.command()\ndef wait():\n    print('ready', flush=True)\n    time.sleep(600)\n"
        "raise SystemExit(guarded(wait, []))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=300) == 143


def test_a_closed_pipe_is_no_error(bundle: Path) -> None:
    command = f"{sys.executable} -m tledge inspect {bundle} --json | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_columns_line_up() -> None:
    assert columns(("a", "bb"), [("ccc", "1"), ("d", "22")]) == "a    bb\nccc   1\nd    22"


def test_a_graph_comes_out_as_it_went_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Bundle.create(tmp_path / "b.tledge")
    with made.writing() as writer:
        writer.put("labels.txt", b"cat\ndog\n")
        writer.put("fp32.onnx", b"graph")
        writer.put("model.safetensors", b"weights")
        writer.commit("finetune", settings={})
        writer.finish()
    out = tmp_path / "x.onnx"
    assert run("export", made.path, "--for", "onnx", "-o", out, capsys=capsys)[0] == 0
    assert out.read_bytes() == b"graph"
    assert run("export", made.path, "--for", "onnx", "-o", out, capsys=capsys)[0] == 2
    assert (
        run("export", made.path, "--for", "onnx", "-o", out, "--variant", "int8", "--force", capsys=capsys)[0]
        == 2
    )
    assert out.read_bytes() == b"graph"
    assert run("export", made.path, "--for", "device", "-o", tmp_path / "d.tledge", capsys=capsys)[0] == 0
    device = Bundle.open(tmp_path / "d.tledge")
    assert device.names == ("fp32.onnx", "labels.txt")
    assert device.settings == {"finetune": {}}
    assert device.problems() == ()
