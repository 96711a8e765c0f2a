"""`tledge build-engine` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.bundles import make_bundle
from tests.runtime.bundles import put_eval
from tledge.bundle import Bundle
from tledge.errors import BundleError
from tledge.runtime import machine

needs_no_gpu = pytest.mark.skipif(not machine.cuda().reason, reason="of a machine without a GPU")


@pytest.fixture
def bundle(tmp_path) -> Path:
    return make_bundle(tmp_path / "b.tledge", ("fp32", "int8")).path


def tledge(*words: object) -> tuple[int, dict, str]:
    command = [sys.executable, "-m", "tledge", *map(str, words), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return result.returncode, json.loads(result.stdout), result.stderr


@pytest.mark.tensorrt
@needs_no_gpu
@pytest.mark.usefixtures("rtx")
def test_an_engine_from_the_command_line(bundle):
    words = ("build-engine", bundle, "--backend", "tensorrt-rtx", "--target", "sm86,sm89,sm120")
    code, answer, _ = tledge(*words, "--batch", "1:4:8")
    assert code == 0
    assert set(answer) == {"bundle", "ledger", "engines", "tried", "seconds"}
    (engine,) = answer["engines"]
    assert engine["name"] == "int8@tensorrt-rtx-sm86-sm89-sm120"
    assert engine["built"]
    assert engine["layers"]["not_int8"] == []
    assert Bundle.open(bundle).problems() == ()

    code, answer, _ = tledge(*words, "--batch", "1:4:8")
    assert (code, answer["engines"][0]["built"]) == (0, False)
    code, answer, _ = tledge(*words, "--batch", "2")
    assert (code, answer["error"]["kind"]) == (6, "bundle")
    assert "batch 1:4:8, wanted 2:2:2" in answer["error"]["message"]
    code, answer, _ = tledge(*words, "--batch", "2", "--rebuild")
    assert (code, answer["engines"][0]["batch"]) == (0, [2, 2, 2])

    text = subprocess.run(
        [sys.executable, "-m", "tledge", *map(str, words), "--batch", "2"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "4 of the 4 nodes that should run in INT8 do" in text
    code, answer, _ = tledge("inspect", bundle, "--layers")
    assert (code, [found["name"] for found in answer["engines"]]) == (0, [engine["name"]])
    assert "was there and fits" in text


@pytest.mark.tensorrt
@needs_no_gpu
@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--target", "sm87"], 2, "does not build for sm87"),
        ([], 2, "no GPU here"),
        (["--target", "sm86", "--precision", "fp16"], 6, "no variant fp16"),
        (["--target", "sm86", "--batch", "8:4"], 2, "not in order"),
        (["--target", "sm86", "--workspace", "0"], 2, "workspace"),
    ],
)
def test_what_cannot_be_built_has_its_exit_code(bundle, words, code, said):
    answered, answer, _ = tledge("build-engine", bundle, "--backend", "tensorrt-rtx", *words)
    assert answered == code
    assert said in answer["error"]["message"]
    assert answer["error"]["hint"]


@pytest.mark.tensorrt
@needs_no_gpu
@pytest.mark.usefixtures("rtx")
def test_auto_without_a_gpu_builds_both_and_says_so(tmp_path):
    made = make_bundle(tmp_path / "b.tledge", ("fp32", "fp16", "int8"))
    words = (
        "build-engine",
        made.path,
        "--backend",
        "tensorrt-rtx",
        "--target",
        "sm86",
        "--precision",
        "auto",
    )
    code, answer, _ = tledge(*words)
    assert (code, answer["error"]["kind"]) == (4, "input")
    assert "no images to score on" in answer["error"]["message"]
    with made.writing() as writer:
        put_eval(writer, 5)
        writer.commit("finetune")
    code, answer, said = tledge(*words)
    assert code == 0
    assert [(one["precision"], one["milliseconds"], one["kept"]) for one in answer["tried"]] == [
        ("fp16", None, True),
        ("int8", None, True),
    ]
    assert "built, and not scored nor timed here" in said
    code, answer, _ = tledge(*words)
    assert (code, [engine["built"] for engine in answer["engines"]]) == (0, [False, False])
    _, _, said = tledge("predict", made.path, "x.jpg")
    assert said.count("not taken") == 1, "engines that lack the same are named in one line"
    code, answer, _ = tledge("predict", made.path, "x.jpg", "--backend", "tensorrt-rtx")
    assert (code, answer["error"]["kind"]) == (3, "environment")


@pytest.mark.tensorrt
@needs_no_gpu
@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize("spoil", [lambda plan: plan.write_bytes(plan.read_bytes()[:5]), Path.unlink])
def test_a_damaged_plan_is_told_of_and_rebuilt_and_nothing_else_is_lost(bundle, spoil):
    with Bundle.open(bundle).writing() as writer:
        put_eval(writer, 3)
        writer.commit("finetune")
    words = ("build-engine", bundle, "--backend", "tensorrt-rtx", "--target", "sm86")
    assert tledge(*words)[0] == 0
    (plan,) = (bundle / "engines").glob("*.plan")
    spoil(plan)
    code, answer, _ = tledge("inspect", bundle, "--verify")
    assert (code, answer["error"]["kind"]) == (6, "bundle")
    assert plan.name in answer["error"]["message"]
    with pytest.raises(BundleError, match=plan.name) as refused:
        Bundle.open(bundle).read(f"engines/{plan.name}")
    assert "--rebuild" in refused.value.hint
    assert tledge("evaluate", bundle, "--variant", "fp32", "--backend", "onnxruntime")[0] == 0
    code, answer, _ = tledge(*words)
    assert (code, answer["error"]["kind"]) == (6, "bundle")
    assert "--rebuild" in answer["error"]["hint"]
    assert tledge(*words, "--rebuild")[0] == 0
    assert Bundle.open(bundle).problems() == ()


@needs_no_gpu
@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("words", [("predict", "x.jpg"), ("evaluate",), ("bench",)])
def test_an_engine_without_a_gpu_is_a_fault_of_the_machine(bundle, backend, words):
    with Bundle.open(bundle).writing() as writer:
        put_eval(writer, 3)
        writer.commit("finetune")
    code, answer, _ = tledge(words[0], bundle, *words[1:], "--backend", backend)
    assert (code, answer["error"]["kind"]) == (3, "environment")
    assert f"the backend {backend} cannot run here" in answer["error"]["message"]
    assert "tledge doctor" in answer["error"]["hint"]
