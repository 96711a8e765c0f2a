from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.runtime import graphs
from tledge.errors import InputError, MachineError, UsageError
from tledge.runtime import backends, machine, onnxruntime, open_session

pytest.importorskip("onnxruntime")
BACKENDS = [
    pytest.param(
        name, marks=pytest.mark.skipif(backends.missing(name) is not None, reason="not on this machine")
    )
    for name in ("onnxruntime", "openvino")
]
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 3, 16, 16)).astype(np.float32)


@each_backend
@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_a_session_answers_any_number_of_images(backend, batch):
    session = open_session(graphs.classifier(batch=batch), backend)
    for n in (1, 3, 4, 9):
        logits = session.run(images(n))
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, graphs.expected(images(n)), atol=1e-5)


@each_backend
def test_the_answer_is_a_fresh_array(backend):
    session = open_session(graphs.classifier(), backend)
    first = session.run(images(1))
    kept = first.copy()
    session.run(images(1, seed=1))
    np.testing.assert_array_equal(first, kept)


@each_backend
def test_a_session_says_what_it_is(backend):
    session = open_session(graphs.classifier(), backend, variant="int8", threads=1)
    assert (session.backend, session.variant, session.device, session.threads) == (backend, "int8", "cpu", 1)
    assert (session.input_name, session.input_dtype, session.classes) == ("x", "float32", 5)
    assert session.input_shape == (None, 3, 16, 16)


@each_backend
def test_a_path_opens_as_its_bytes_do(backend, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(graphs.classifier())
    from_path, from_bytes = open_session(path, backend), open_session(path.read_bytes(), backend)
    np.testing.assert_array_equal(from_path.run(images(2)), from_bytes.run(images(2)))


@each_backend
def test_pooling_without_a_flatten_and_float16_are_taken(backend):
    session = open_session(graphs.classifier(flat=False), backend)
    assert session.run(images(2)).shape == (2, 5)
    half = open_session(graphs.classifier(dtype=TensorProto.FLOAT16), backend)
    logits = half.run(images(2).astype(np.float16))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, graphs.expected(images(2)), atol=0.05)


@each_backend
def test_dynamic_height_and_width(backend):
    session = open_session(graphs.classifier(size=("H", "W")), backend)
    assert session.classes == 5
    np.testing.assert_allclose(session.run(images(1)), graphs.expected(images(1)), atol=1e-5)
    told = open_session(graphs.classifier(size=("H", "W")), backend, shape=(3, 16, 16))
    np.testing.assert_allclose(told.run(images(1)), graphs.expected(images(1)), atol=1e-5)


@each_backend
def test_threads_share_one_session(backend):
    session = open_session(graphs.classifier(), backend, threads=1)
    batches = [images(1 + seed % 5, seed) for seed in range(200)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(session.run, batches))
    for x, logits in zip(batches, answers, strict=True):
        np.testing.assert_allclose(logits, graphs.expected(x), atol=1e-5)


@each_backend
def test_a_tensor_that_does_not_fit_is_refused(backend):
    session = open_session(graphs.classifier(), backend)
    for wrong in (images(1)[0], images(1)[:, :, :8], images(1).astype(np.float64), images(0)):
        with pytest.raises(InputError, match="x float32 N x 3 x 16 x 16"):
            session.run(wrong)
    assert session.run(np.asfortranarray(images(2))).shape == (2, 5)


def bad_graphs() -> dict[str, tuple[bytes, str]]:
    whole = graphs.classifier()
    image, logits = graphs.value("x", ["N", 3, 16, 16]), graphs.value("y", ["N", 5])
    second = graphs.value("x2", ["N", 3, 16, 16])
    identity = helper.make_node("Identity", ["x"], ["y"])
    pool = [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["y"])]
    two = [*pool, helper.make_node("Identity", ["p"], ["z"])]
    add = [helper.make_node("Add", ["x", "x2"], ["s"]), helper.make_node("GlobalAveragePool", ["s"], ["p"])]
    add.append(helper.make_node("Flatten", ["p"], ["y"]))
    constant = helper.make_node("Constant", [], ["y"], value_floats=[1.0, 2.0])
    return {
        "empty": (b"", "is empty"),
        "half": (whole[: len(whole) // 2], "not a whole ONNX file"),
        "text": (b"this is no graph at all", "not a whole ONNX file|no image|0 inputs"),
        "unknown operator": (graphs.classifier(op="Sparkle", domain="com.example"), "Sparkle"),
        "no input": (graphs.graph([constant], [], [graphs.value("y", [2])]), "0 inputs"),
        "no image": (
            graphs.graph([identity], [graphs.value("x", ["N", 7])], [graphs.value("y", ["N", 7])]),
            "no image input.*x float32 N x 7",
        ),
        "one channel": (graphs.classifier(channels=1), "no image input"),
        "two inputs": (
            graphs.graph(add, [image, second], [logits]),
            "2 inputs",
        ),
        "two outputs": (graphs.graph(two, [image], [logits, graphs.value("z", ["N", 3, 1, 1])]), "2 outputs"),
        "image out": (
            graphs.graph([identity], [image], [graphs.value("y", ["N", 3, 16, 16])]),
            "the ONNX graph",
        ),
        "integers in": (
            graphs.graph(
                [identity],
                [graphs.value("x", ["N", 3, 16, 16], TensorProto.INT64)],
                [graphs.value("y", ["N", 3, 16, 16], TensorProto.INT64)],
            ),
            "int64",
        ),
    }


@each_backend
@pytest.mark.parametrize("name", list(bad_graphs()))
def test_bad_graphs_are_named_and_the_next_step_given(backend, name, tmp_path):
    data, words = bad_graphs()[name]
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(InputError, match=words) as raised:
        open_session(data, backend)
    assert raised.value.hint
    with pytest.raises(InputError) as raised:
        open_session(path, backend)
    assert str(path) in raised.value.message
    assert raised.value.path == str(path)
    assert "\n" not in raised.value.message


@each_backend
def test_no_such_file(backend, tmp_path):
    with pytest.raises(InputError, match=r"no file .*gone\.onnx"):
        open_session(tmp_path / "gone.onnx", backend)


def test_an_unknown_backend_names_the_nearest():
    with pytest.raises(UsageError, match="onxruntime") as raised:
        open_session(graphs.classifier(), "onxruntime")
    assert "Did you mean onnxruntime?" in raised.value.hint
    with pytest.raises(UsageError) as raised:
        backends.find("zzz")
    assert "openvino-bf16" in raised.value.hint


def test_threads_below_one_are_refused():
    with pytest.raises(UsageError, match="threads is 0"):
        open_session(graphs.classifier(), "onnxruntime", threads=0)


def test_available_gives_a_reason_for_each_that_is_missing(monkeypatch):
    assert set(backends.available()) == set(backends.BACKENDS)
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    assert (
        backends.available()["openvino"]
        == 'the package openvino is not installed: pip install "tledge[openvino]"'
    )
    with pytest.raises(MachineError, match=r"pip install \"tledge\[onnx\]\""):
        open_session(graphs.classifier(), "onnxruntime")


def test_cuda_is_not_asked_for_without_a_driver(monkeypatch):
    monkeypatch.setattr(machine, "cuda", lambda: machine.Cuda((), "", "no NVIDIA driver"))
    with pytest.raises(MachineError, match="no NVIDIA driver"):
        open_session(graphs.classifier(), "onnxruntime-cuda")


def test_a_provider_that_falls_back_is_an_error(monkeypatch):
    import onnxruntime as library

    if "CUDAExecutionProvider" not in library.get_available_providers():
        pytest.skip("this ONNX Runtime was built without CUDA")
    if not machine.cuda().reason:
        pytest.skip("this machine has a GPU")
    # As on a machine with a driver but without CUDA's libraries: ONNX Runtime opens the CPU without an error.
    monkeypatch.setattr(onnxruntime, "cuda_missing", lambda: None)
    with pytest.raises(MachineError, match="asked for CUDAExecutionProvider and opened CPUExecutionProvider"):
        open_session(graphs.classifier(), "onnxruntime-cuda")


def test_openvino_computes_in_float32_unless_told():
    if backends.missing("openvino-bf16"):
        pytest.skip(backends.missing("openvino-bf16"))
    x = images(4)
    exact = graphs.expected(x)
    plain = open_session(graphs.classifier(), "openvino").run(x)
    short = open_session(graphs.classifier(), "openvino-bf16").run(x)
    assert np.abs(plain - exact).max() < 1e-5
    assert 1e-5 < np.abs(short - exact).max() < 0.1


def test_nothing_is_printed(capfd):
    for backend in ("onnxruntime", "openvino"):
        if backends.missing(backend) is None:
            open_session(graphs.classifier(), backend)
            with pytest.raises(InputError):
                open_session(graphs.classifier(op="Sparkle", domain="com.example"), backend)
    assert capfd.readouterr() == ("", "")


def test_openvino_tells_nobody_that_it_was_imported(tmp_path):
    pytest.importorskip("openvino_telemetry")
    code = """
import sys
from tests.runtime import graphs
from tledge.runtime import open_session
open_session(graphs.classifier(), "openvino")
assert "openvino_telemetry" not in sys.modules
import openvino_telemetry  # others may have it
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "HOME": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []  # it would keep an identifier of the user's there
