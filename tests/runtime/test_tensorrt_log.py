from __future__ import annotations

import pytest

from tledge.runtime import machine
from tledge.runtime.tensorrt_log import Messages, tidy

NO_DRIVER = (
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at "
    "/_src/common/dispatch/checkMacros.cpp:250 (cudaError 35: CUDA driver version is insufficient for CUDA "
    "runtime version))"
)
MIXED = (
    "Invalid Node - add\nITensor::getDimensions: Error Code 4: API Usage Error (add: ElementWiseOperation "
    "SUM must have same input types. But they are of types Float and Half. In validateTypes at "
    "/_src/optimizer/common/nodes/elementWiseNode.cpp:40)"
)


@pytest.fixture
def driverless(monkeypatch):
    monkeypatch.setattr(machine, "cuda", lambda: machine.Cuda((), "", "no NVIDIA driver"))


@pytest.mark.usefixtures("driverless")
@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (
            f"{MIXED}\n{NO_DRIVER}",
            "add: ElementWiseOperation SUM must have same input types. But they are of types Float and Half",
        ),
        (
            'creator && "Plugin not found, are the plugin name, version, and namespace correct?"',
            "Plugin not found, are the plugin name, version, and namespace correct?",
        ),
        (
            "Assertion failed: model->ParseFromCodedStream(&codedInput): Failed to parse the ONNX model.",
            "Failed to parse the ONNX model",
        ),
        ("false", ""),
        (NO_DRIVER, ""),
        ("Make sure input x has Int64 binding.", "Make sure input x has Int64 binding."),
    ],
)
def test_only_the_words_that_help_are_left(raw, words):
    assert tidy(raw) == words


def test_with_a_driver_its_errors_are_kept(monkeypatch):
    monkeypatch.setattr(machine, "cuda", lambda: machine.Cuda((), "12.6", ""))
    assert "cudaError 35" in tidy(NO_DRIVER)


@pytest.mark.usefixtures("driverless")
def test_each_thing_is_said_once():
    messages = Messages(
        [
            ("error", MIXED),
            ("verbose", "chatter"),
            ("error", MIXED),
            ("error", NO_DRIVER),
            ("warning", "careful"),
        ]
    )
    assert len(messages.errors()) == 1
    assert messages.warnings() == ["careful"]
    assert messages.find("chat(ter)")[1] == "ter"
    assert messages.find("nothing") is None
