"""What of running engines can be tested without a GPU or its stand-in (for that: test_pipeline.py)."""

from __future__ import annotations

import dataclasses

import pytest

from tests.runtime.test_engine_manifest import ENGINE
from tledge.errors import BundleError, InputError, MachineError, UsageError
from tledge.runtime import backends, machine, open_session, tensorrt
from tledge.runtime.engine_manifest import EnginePort
from tledge.runtime.session import Port
from tledge.runtime.tensorrt_library import load

IMAGE = (3, 32, 32)


def ports(**changes: object) -> tuple[Port, Port]:
    return tensorrt._ports(dataclasses.replace(ENGINE, **changes), IMAGE)


def test_a_profile_of_several_sizes_is_a_dynamic_batch():
    image, logits = ports()
    assert image == Port("images", "float32", (None, 3, 32, 32))
    assert logits == Port("logits", "float32", (None, 5))


def test_a_profile_of_one_size_is_a_fixed_batch():
    assert ports(batch=(4, 4, 4))[0].shape == (4, 3, 32, 32)


@pytest.mark.parametrize(
    ("dtype", "name"), [("HALF", "float16"), ("INT8", "int8"), ("UINT8", "uint8"), ("FLOAT", "float32")]
)
def test_types_have_numpys_names(dtype, name):
    assert ports(inputs=(EnginePort("x", dtype, (-1, 3, 32, 32)),))[0].dtype == name


def test_height_and_width_that_the_graph_leaves_open_are_those_of_the_bundle():
    assert ports(inputs=(EnginePort("x", "FLOAT", (-1, 3, -1, -1)),))[0].shape == (None, 3, 32, 32)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inputs": (EnginePort("x", "BF16", (-1, 3, 32, 32)),)}, "int8@tensorrt-sm87.plan takes x BF16"),
        ({"inputs": (EnginePort("x", "FLOAT", (-1, 7)),)}, "no image input"),
        ({"inputs": 2 * (EnginePort("x", "FLOAT", (-1, 3, 32, 32)),)}, "2 inputs"),
        ({"outputs": (EnginePort("y", "INT64", (-1, 5)),)}, "gives y INT64"),
        ({"outputs": (EnginePort("y", "FLOAT", (-1, -1)),)}, "does not say how many classes"),
    ],
)
def test_an_engine_that_is_no_image_classifier_is_refused(changes, said):
    with pytest.raises(InputError, match=said):
        ports(**changes)


@pytest.mark.parametrize("backend", backends.ENGINES)
def test_an_engine_backend_opens_no_graph(backend):
    with pytest.raises(UsageError, match="runs engines, not graphs") as caught:
        open_session(b"a graph", backend)
    assert "build-engine" in caught.value.hint


def test_no_memory_says_what_to_make_smaller():
    error = tensorrt.no_memory(ENGINE, "allocating 700.0 MiB")
    assert error.exit_code == 3
    assert "a smaller largest batch than 16" in error.hint
    single = tensorrt.no_memory(dataclasses.replace(ENGINE, batch=(1, 1, 1)), "allocating 700.0 MiB")
    assert "largest batch" not in single.hint


@pytest.mark.tensorrt
@pytest.mark.skipif(not machine.cuda().reason, reason="of a machine without a GPU")
def test_a_plan_that_the_real_library_refuses_is_told_in_its_words():
    try:
        library = load("tensorrt-rtx")
    except MachineError as error:
        pytest.skip(str(error))
    with pytest.raises(BundleError, match=r"TensorRT for RTX [\d.]+ opens no engine from the plan") as caught:
        tensorrt.TensorRTEngine(library, ENGINE, b"no plan at all", *ports())
    assert "--rebuild" in caught.value.hint
    assert "it gives no reason" not in caught.value.message
