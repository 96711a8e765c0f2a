from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.bundles import make_bundle
from tledge.bundle import Bundle
from tledge.bundle.files import sha256_bytes
from tledge.errors import BundleError
from tledge.runtime.engine_manifest import EngineManifest, EnginePort, engines, read_manifest, read_plan
from tledge.runtime.place import Place, l4t_release

ORIN = Place("Orin (nvgpu)", "sm87", "12.6", "36.4.3")
PLAN = b"a plan"
SOURCE = "ab" * 32
ENGINE = EngineManifest(
    name="int8@tensorrt-sm87",
    variant="int8",
    backend="tensorrt",
    library="10.3.0",
    targets=("sm87",),
    gpu="Orin (nvgpu)",
    cuda="12.6",
    l4t="36.4.3",
    batch=(1, 8, 16),
    inputs=(EnginePort("images", "FLOAT", (-1, 3, 32, 32)),),
    outputs=(EnginePort("logits", "FLOAT", (-1, 5)),),
    workspace_mib=512,
    source_sha256=SOURCE,
    plan_sha256=sha256_bytes(PLAN),
    plan_bytes=len(PLAN),
    layers={"source": "inspector", "layers": 9},
    seconds=1.5,
)
PORTABLE = dataclasses.replace(
    ENGINE,
    name="int8@tensorrt-rtx-sm86-sm89",
    backend="tensorrt-rtx",
    library="1.7.1",
    targets=("sm86", "sm89"),
    gpu="",
    cuda="",
    l4t="",
    workspace_mib=None,
)


def fields(engine, place=ORIN, library="10.3.0", source=SOURCE) -> list[str]:
    return [difference.field for difference in engine.differences(place, library, source)]


def test_it_fits_where_it_was_built():
    assert fields(ENGINE) == []
    assert fields(PORTABLE, Place("RTX 4090", "sm89", "13.0"), "1.7.1") == []


@pytest.mark.parametrize(
    ("here", "field"),
    [
        ({"library": "10.13.3.9"}, "TensorRT"),
        ({"place": dataclasses.replace(ORIN, gpu="Thor")}, "GPU"),
        ({"place": dataclasses.replace(ORIN, architecture="sm110")}, "GPU architecture"),
        ({"place": dataclasses.replace(ORIN, cuda="13.2")}, "CUDA"),
        ({"place": dataclasses.replace(ORIN, l4t="39.2")}, "L4T"),
        ({"source": "cd" * 32}, "int8.onnx"),
    ],
)
def test_each_difference_is_found(here, field):
    assert fields(ENGINE, **here) == [field]


def test_what_does_not_matter_is_no_difference():
    assert fields(ENGINE, dataclasses.replace(ORIN, cuda="12.8", l4t="36.4.4")) == []


def test_an_engine_for_some_gpus_fits_no_other():
    assert fields(PORTABLE, Place("RTX 5090", "sm120", "13.0"), "1.7.1") == ["GPU architecture"]
    assert fields(PORTABLE, Place(), "1.7.1") == ["GPU architecture"]


def test_it_survives_json():
    for engine in (ENGINE, PORTABLE):
        assert EngineManifest.from_json(engine.to_json(), "engine.json") == engine


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda t: st.lists(t) | st.dictionaries(st.text(), t),
    )
)
def test_any_other_document_is_refused(document):
    with pytest.raises(BundleError):
        EngineManifest.from_json(json.dumps(document), "engine.json")


@pytest.mark.parametrize(
    "key", [field.name for field in dataclasses.fields(EngineManifest) if field.name != "gate"]
)
def test_a_missing_field_is_refused(key):
    body = ENGINE.as_dict()
    del body[key]
    with pytest.raises(BundleError, match="damaged"):
        EngineManifest.from_json(json.dumps(body), "engine.json")


def test_a_newer_schema_is_refused():
    with pytest.raises(BundleError, match="schema 2"):
        EngineManifest.from_json(json.dumps(ENGINE.as_dict() | {"schema": 2}), "engine.json")


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    made = make_bundle(tmp_path / "b.tledge", ("fp32", "int8"))
    return put(made, dataclasses.replace(ENGINE, source_sha256=made.sha256("int8.onnx")))


def put(bundle: Bundle, engine: EngineManifest, plan: bytes = PLAN) -> Bundle:
    with bundle.writing() as writer:
        writer.put(engine.plan_name, plan)
        writer.put(f"engines/{engine.name}.json", engine.to_json().encode())
        return writer.commit("build-engine")


def test_a_fitting_plan_is_read(bundle):
    assert [engine.name for engine in engines(bundle)] == [ENGINE.name]
    assert read_plan(bundle, ENGINE.name, ORIN, "10.3.0") == PLAN


def test_a_plan_that_does_not_fit_is_never_read(bundle):
    plan = bundle.path / ENGINE.plan_name
    plan.chmod(0)  # reading it would be another error
    thor = Place("Thor", "sm110", "13.0", "38.4")
    with pytest.raises(BundleError) as caught:
        read_plan(bundle, ENGINE.name, thor, "10.13.3.9")
    assert caught.value.exit_code == 6
    for words in (
        "TensorRT 10.3.0, here 10.13.3.9",
        "sm87, here sm110",
        "GPU Orin (nvgpu), here Thor",
        "CUDA 12, here 13",
    ):
        assert words in caught.value.message
    assert caught.value.hint == (
        f"Build it anew: tledge build-engine {bundle.path} --backend tensorrt --precision int8 "
        "--batch 1:8:16 --workspace 512 --rebuild"
    )


def test_the_command_names_the_targets():
    assert (
        "--backend tensorrt-rtx --precision int8 --batch 1:8:16 --target sm86,sm89 --rebuild"
        in PORTABLE.command("b.tledge")
    )


def test_another_plan_under_the_manifest_is_refused(bundle):
    changed = put(bundle, read_manifest(bundle, ENGINE.name), plan=b"another plan")
    with pytest.raises(BundleError, match="not the plan that its manifest describes"):
        read_plan(changed, ENGINE.name, ORIN, "10.3.0")


def test_a_damaged_plan_is_refused(bundle):
    (bundle.path / ENGINE.plan_name).write_bytes(b"a plaN")
    with pytest.raises(BundleError, match="other bytes"):
        read_plan(Bundle.open(bundle.path), ENGINE.name, ORIN, "10.3.0")


def test_an_engine_that_is_not_there_is_refused(bundle):
    with pytest.raises(BundleError, match=r"holds no engines/none\.json"):
        read_plan(bundle, "none", ORIN, "10.3.0")


def test_the_release_of_jetson_linux(tmp_path):
    file = tmp_path / "nv_tegra_release"
    file.write_text(
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed\n"
    )
    assert l4t_release(file) == "36.4.3"
    file.write_text("nothing of the kind")
    assert l4t_release(file) == ""
    assert l4t_release(tmp_path / "absent") == ""
