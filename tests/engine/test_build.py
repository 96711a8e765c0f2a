from __future__ import annotations

import pytest

from tests.engine import networks
from tests.engine.bundles import make_bundle
from tledge.bundle import Bundle
from tledge.engine import build
from tledge.engine.build import build_engine
from tledge.engine.settings import BuildSettings
from tledge.errors import BundleError, MachineError, UsageError
from tledge.progress import Progress
from tledge.runtime import machine
from tledge.runtime.engine_manifest import engines, read_plan
from tledge.runtime.place import Place
from tledge.runtime.tensorrt_library import Library

RTX = BuildSettings("tensorrt-rtx", batch=(1, 4, 8), targets=("sm86", "sm89"))
silent = Progress.silent()
needs_no_gpu = pytest.mark.skipif(not machine.cuda().reason, reason="of a machine without a GPU")


class Notes(Progress):
    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    return make_bundle(tmp_path / "b.tledge", ("fp32", "int8"))


@pytest.mark.tensorrt
@needs_no_gpu
def test_an_engine_is_kept_in_the_bundle(rtx, bundle):
    made = build_engine(bundle, "int8", RTX, rebuild=False, progress=silent)
    opened = Bundle.open(bundle.path)
    assert made.built
    assert opened.problems() == ()
    assert engines(opened) == made.engines
    assert made.engines[0].name == "int8@tensorrt-rtx-sm86-sm89"
    assert made.engines[0].batch == (1, 4, 8)
    assert made.engines[0].layers["not_int8"] == []
    assert made.engines[0].layers["int8_wanted"] == 4
    assert made.engines[0].source_sha256 == opened.sha256("int8.onnx")
    entry = opened.lineage[-1]
    assert entry["stage"] == "build-engine"
    assert entry["made_from"] == {"int8.onnx": opened.sha256("int8.onnx")}
    plan = read_plan(opened, made.engines[0].name, Place("RTX 3090", "sm86", "13.0"), rtx.version)
    assert len(plan) == made.engines[0].plan_bytes


@pytest.mark.tensorrt
@needs_no_gpu
@pytest.mark.usefixtures("rtx")
def test_what_is_there_and_fits_is_left(bundle):
    first = build_engine(bundle, "fp32", RTX, rebuild=False, progress=silent)
    again = build_engine(first.bundle, "fp32", RTX, rebuild=False, progress=silent)
    assert not again.built
    assert again.engines == first.engines
    other = BuildSettings("tensorrt-rtx", batch=(1, 2, 2), targets=RTX.targets)
    with pytest.raises(BundleError, match=r"another engine .* batch 1:4:8, wanted 1:2:2") as caught:
        build_engine(first.bundle, "fp32", other, rebuild=False, progress=silent)
    assert "--rebuild" in caught.value.hint
    replaced = build_engine(first.bundle, "fp32", other, rebuild=True, progress=silent)
    assert replaced.built
    assert len(engines(replaced.bundle)) == 1


@pytest.mark.tensorrt
@needs_no_gpu
@pytest.mark.usefixtures("rtx")
def test_a_failed_build_leaves_the_bundle_as_it_was(bundle):
    with bundle.writing() as writer:
        writer.put("fp16.onnx", networks.one_node("Det"))
        bundle = writer.commit("calibrate")
    before = bundle.names
    with pytest.raises(Exception, match="Det"):
        build_engine(bundle, "fp16", RTX, rebuild=False, progress=silent)
    assert Bundle.open(bundle.path).names == before
    assert build_engine(bundle, "fp32", RTX, rebuild=False, progress=silent).built


@pytest.mark.tensorrt
@needs_no_gpu
@pytest.mark.usefixtures("rtx")
def test_a_graph_that_is_replaced_meanwhile_gets_no_engine(bundle, monkeypatch):
    def build_and_replace(onnx, settings, *, progress, title):
        outcome = real(onnx, settings, progress=progress, title=title)
        with bundle.writing() as writer:
            writer.put("int8.onnx", networks.network("int8", opset=17))
            writer.commit("calibrate")
        return outcome

    real = build.build_apart
    monkeypatch.setattr(build, "build_apart", build_and_replace)
    with pytest.raises(BundleError, match=r"int8\.onnx was replaced while"):
        build_engine(bundle, "int8", RTX, rebuild=False, progress=silent)
    assert engines(Bundle.open(bundle.path)) == ()


@pytest.mark.tensorrt
@needs_no_gpu
@pytest.mark.usefixtures("rtx")
def test_layers_that_should_be_int8_and_are_not_are_told(bundle):
    # Turing has no INT8 convolutions in TensorRT for RTX beside float16 ones: a real engine that falls back.
    notes = Notes()
    with bundle.writing() as writer:
        writer.put("int8.onnx", networks.network("int8-half"))
        bundle = writer.commit("calibrate")
    made = build_engine(
        bundle, "int8", BuildSettings("tensorrt-rtx", targets=("sm75",)), rebuild=False, progress=notes
    )
    assert made.engines[0].layers["not_int8"]
    assert any("nodes that should run in INT8 do not: stem" in note for note in notes.notes)


@needs_no_gpu
@pytest.mark.usefixtures("rtx")
def test_a_machine_without_a_gpu_must_be_told_which(bundle):
    with pytest.raises(UsageError, match="no GPU here to build for") as caught:
        build_engine(bundle, "fp32", BuildSettings("tensorrt-rtx"), rebuild=False, progress=silent)
    assert "--target" in caught.value.hint


def test_what_the_bundle_lacks_is_named(bundle):
    with pytest.raises(BundleError, match="no variant fp16; it has fp32, int8") as caught:
        build_engine(bundle, "fp16", RTX, rebuild=False, progress=silent)
    assert "tledge calibrate" in caught.value.hint
    with pytest.raises(UsageError, match="'int-8'") as caught:
        build_engine(bundle, "int-8", RTX, rebuild=False, progress=silent)
    assert "int8" in caught.value.hint


def test_tensorrt_builds_for_its_own_gpu_only(bundle, monkeypatch):
    monkeypatch.setattr(build, "load", lambda backend: Library(backend, None, "10.3.0"))
    monkeypatch.setattr(build, "this_machine", Place)
    with pytest.raises(MachineError, match=r"TensorRT 10\.3\.0 builds for the GPU of the machine") as caught:
        build_engine(bundle, "fp32", BuildSettings("tensorrt"), rebuild=False, progress=silent)
    assert "Jetson" in caught.value.hint


def test_a_jetson_gives_half_of_its_free_memory(bundle, monkeypatch):
    asked = []

    def build_apart(onnx, settings, *, progress, title):
        asked.append((settings, title))
        raise MachineError("stop here")

    monkeypatch.setattr(build, "load", lambda backend: Library(backend, None, "10.3.0"))
    monkeypatch.setattr(build, "this_machine", lambda: Place("Orin", "sm87", "12.6", "36.4.3"))
    monkeypatch.setattr(build, "free_memory_mib", lambda: 3000)
    monkeypatch.setattr(build, "build_apart", build_apart)
    with pytest.raises(MachineError, match="stop here"):
        build_engine(bundle, "fp32", BuildSettings("tensorrt"), rebuild=False, progress=silent)
    settings, title = asked[0]
    assert settings.workspace_mib == 1500
    assert settings.image == (3, networks.SIZE, networks.SIZE)
    assert title == "building fp32@tensorrt-sm87"
