"""Engines of a bundle, run by test_pipeline.py on the stand-in with a fake TensorRT."""

from __future__ import annotations

import ctypes
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from tests.bench import quick
from tests.runtime import bundles, fake_tensorrt, graphs
from tledge import bench, load
from tledge.bench import queries
from tledge.bundle import Bundle, probabilities
from tledge.bundle.files import sha256_bytes
from tledge.cuda import compiler
from tledge.errors import BundleError, InputError, MachineError
from tledge.evaluation import stage
from tledge.preprocess.golden import golden_frames
from tledge.runtime import choose
from tledge.runtime.engine_manifest import EngineManifest, EnginePort

STANDIN = ctypes.CDLL("libcuda.so.1")
STANDIN.standin_used_memory.restype = ctypes.c_size_t
ENGINE = EngineManifest(
    name="int8@tensorrt-sm87",
    variant="int8",
    backend="tensorrt",
    library=fake_tensorrt.VERSION,
    targets=("sm87",),
    gpu="stand-in GPU",
    cuda="13.0",
    l4t="",
    batch=(1, 4, 6),
    inputs=(EnginePort("x", "FLOAT", (-1, 3, 16, 16)),),
    outputs=(EnginePort("logits", "FLOAT", (-1, 5)),),
    workspace_mib=None,
    source_sha256=sha256_bytes(graphs.classifier()),
    plan_sha256="",
    plan_bytes=0,
    layers={},
    seconds=1.0,
    gate={"max_drop": 0.5, "drop": 0.0, "drop_low": -1.0, "n": 8},
)


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    fake_tensorrt.install(monkeypatch)
    yield
    assert STANDIN.standin_context_depth() == 0
    assert STANDIN.standin_primary_references() == 0
    assert STANDIN.standin_graphs() == 0


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    made = bundles.make(tmp_path / "b.tledge", ("fp32", "int8"), ("fp32@onnxruntime",), eval_images=8)
    return put(made)


def put(bundle: Bundle, plan: bytes = b"", **changes: object) -> Bundle:
    plan = plan or graphs.classifier()
    engine = dataclasses.replace(ENGINE, plan_sha256=sha256_bytes(plan), plan_bytes=len(plan), **changes)
    with bundle.writing() as writer:
        writer.put(engine.plan_name, plan)
        writer.put(f"engines/{engine.name}.json", engine.to_json().encode())
        return writer.commit("build-engine")


def test_the_model_answers_as_on_the_host(bundle):
    images = [bundles.pixels(seed, (20 + seed, 30)) for seed in range(9)]
    expected = load(bundle.path, backend="onnxruntime", variant="int8").predict(images)
    model = load(bundle.path, backend="tensorrt", variant="int8")
    assert (model.backend, model.variant, model.device) == ("tensorrt", "int8", "cuda:0")
    assert model.predict(images) == expected
    assert model.predict(images[0]) == expected[0]
    assert model.predict(bundles.png(1)) == load(bundle.path, backend="onnxruntime").predict(bundles.png(1))
    with pytest.raises(InputError, match="takes at most 6 images at once, and was given 7"):
        model.logits(np.zeros((7, 3, 16, 16), np.float32))
    model.close()
    assert STANDIN.standin_used_memory() == 0


def test_images_are_written_where_the_gpu_reads_them(bundle):
    model = load(bundle.path, backend="tensorrt", variant="int8")

    def copied(x):
        raise AssertionError("a tensor was made and copied")

    direct = dataclasses.replace(model, session=dataclasses.replace(model.session, infer=copied))
    images = [bundles.pixels(seed) for seed in range(5)]
    assert direct.predict(images) == model.predict(images)
    whole = Image.fromarray(bundles.pixels(3, (64, 48)))
    buffer = io.BytesIO()
    whole.save(buffer, "JPEG")
    host = load(bundle.path, backend="onnxruntime", variant="int8")
    for source in (buffer.getvalue(), whole, bundles.png(2)):
        assert direct.predict(source) == host.predict(source)
    with pytest.raises(InputError):
        direct.predict(b"no image")
    assert direct.predict(images[0]) == model.predict(images[0])
    model.close()


def test_pixels_and_frames_are_preprocessed_on_the_gpu(bundle):
    model = load(bundle.path, backend="tensorrt", variant="int8")
    host = load(bundle.path, backend="onnxruntime", variant="int8")
    assert model.session.takes_pixels
    assert model.notes == host.notes == ()

    class NotUsed:
        """A preprocessor of the host that must not be called."""

    straight = dataclasses.replace(model, preprocessor=NotUsed())
    whole = Image.fromarray(bundles.pixels(3, (64, 48)))
    images = [bundles.pixels(1, (90, 31)), *golden_frames(), whole]
    assert straight.predict(images) == host.predict(images)
    assert straight.predict(whole) == host.predict(whole)
    with pytest.raises(InputError) as here:
        model.predict(np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError) as there:
        host.predict(np.zeros((4, 4), np.uint8))
    assert (str(here.value), here.value.hint) == (str(there.value), there.value.hint)
    # Files in a batch, or an image that is too large for the lane, go over the host, to the same answers.
    mixed = [bundles.png(1), bundles.pixels(1)]
    large = bundles.pixels(2, (3400, 3400))
    assert model.predict(mixed) == host.predict(mixed)
    assert model.predict(large) == host.predict(large)
    model.close()
    assert STANDIN.standin_used_memory() == 0


@pytest.mark.parametrize("source", queries.SOURCES)
def test_a_bench_takes_the_steps_of_predict(bundle, source):
    files = [bundles.png(seed) for seed in range(9)]
    model = load(bundle.path, backend="tensorrt", variant="int8")
    images = queries.starts(model, files, source)
    query = queries.queries(model, images, source)
    stages = queries.timed(source, model.session.takes_pixels)
    assert ("preprocess" in stages) == (source == "jpeg"), "a GPU that takes pixels preprocesses in its graph"
    labels, ended = query(range(9))
    assert len(ended) == len(stages)
    assert list(ended) == sorted(ended)
    assert labels == [answer.index for answer in model.predict(files)]
    timed, spent = queries.batches(model, images, source).answered(range(9), timed=True)
    assert timed == labels
    assert min(spent.values()) >= 0
    assert {"infer", "postprocess", "launch"} <= set(spent)
    assert ("decode" in spent) == (source == "jpeg")
    assert ("preprocess" in spent) == (source != "tensor")
    model.close()


def test_a_bench_takes_the_stages_from_the_gpus_events(bundle, monkeypatch):
    monkeypatch.setenv("STANDIN_DISCRETE", "1")
    with pytest.MonkeyPatch.context() as patch:
        quick.make(patch)
        result = bench.run(bundle, variant="int8", backend="tensorrt", duration=0.05)
        on_host = bench.run(bundle, variant="int8", backend="onnxruntime", duration=0.05)
    assert (result["stages_clock"], on_host["stages_clock"]) == ("device events", "host")
    assert on_host["launch_ms"] is None
    stages = result["stages_ms"]
    assert all(stages.values())
    parts = sum(one["p50"] for one in stages.values()) + result["launch_ms"]["p50"]
    # Another pass over the same images: the stages add up to about what a query takes.
    assert 0.3 < parts / result["latency_ms"]["p50"] < 3
    assert "launch" in bench.text(result)
    assert "launch" not in bench.text(on_host)


def test_without_a_compiler_the_host_preprocesses_and_says_so(bundle, monkeypatch):
    monkeypatch.setattr(compiler, "compilers", lambda: ())
    model = load(bundle.path, backend="tensorrt", variant="int8")
    assert not model.session.takes_pixels
    (note,) = model.notes
    assert note.startswith("images are preprocessed on the processor, not on the GPU: there is no compiler")
    host = load(bundle.path, backend="onnxruntime", variant="int8")
    assert model.predict(bundles.pixels(1)) == host.predict(bundles.pixels(1))
    model.close()


def test_auto_takes_an_engine_that_fits_and_passed_its_gate(bundle):
    assert choose.choose(bundle) == ("tensorrt", "int8")
    assert choose.passed_over(bundle) == ()
    assert choose.choose(bundle, variant="fp32")[0] != "tensorrt"
    ungated = put(bundle, gate={})
    assert choose.choose(ungated)[0] != "tensorrt"
    assert choose.choose(ungated, backend="tensorrt") == ("tensorrt", "int8")
    (reason,) = choose.passed_over(ungated)
    assert reason == "the engine int8@tensorrt-sm87 is not taken: it was not scored where it was built"
    foreign = put(bundle, gpu="Thor", library="10.13.3.9")
    assert choose.choose(foreign)[0] != "tensorrt"
    assert "TensorRT 10.13.3.9, here 10.3.0; GPU Thor, here stand-in GPU" in choose.passed_over(foreign)[0]


def test_what_does_not_fit_is_not_opened(bundle):
    foreign = put(bundle, plan=b"no plan", gpu="Thor")
    with pytest.raises(BundleError, match="GPU Thor, here stand-in GPU") as caught:
        load(foreign.path, backend="tensorrt")
    assert "tledge build-engine" in caught.value.hint
    assert "--rebuild" in caught.value.hint
    with pytest.raises(BundleError, match="has no engine of fp32 for tensorrt") as caught:
        load(bundle.path, backend="tensorrt", variant="fp32")
    assert caught.value.exit_code == 6


def test_what_the_library_refuses_is_told(bundle):
    refused = put(bundle, plan=b"no plan")
    with pytest.raises(
        BundleError, match=r"opens no engine .* although its manifest fits: the plan is corrupt"
    ):
        load(refused.path, backend="tensorrt")
    too_large = put(bundle, plan=b"too large")
    with pytest.raises(MachineError, match="not enough memory on the GPU to run the engine int8") as caught:
        load(too_large.path, backend="tensorrt")
    assert "smaller largest batch than 6" in caught.value.hint
    model = load(put(bundle).path, backend="tensorrt")
    assert model.predict(bundles.pixels(0)).error is None
    model.close()


def test_an_engine_that_does_not_fit_into_memory_is_told(bundle, monkeypatch):
    monkeypatch.setattr(fake_tensorrt.Engine, "device_memory_size_v2", 700 << 20)
    with pytest.raises(MachineError, match=r"not enough memory .* allocating 700\.0 MiB") as caught:
        load(bundle.path, backend="tensorrt")
    assert caught.value.exit_code == 3
    assert STANDIN.standin_used_memory() == 0


def test_a_fixed_batch_runs_any_number(bundle):
    fixed = put(bundle, batch=(4, 4, 4))
    images = [bundles.pixels(seed) for seed in range(6)]
    model = load(fixed.path, backend="tensorrt")
    assert model.predict(images) == load(bundle.path, backend="onnxruntime", variant="int8").predict(images)
    model.close()


def test_a_stage_is_scored_under_the_name_of_the_engine(bundle):
    row, _ = stage.evaluate(bundle, "int8", "tensorrt")
    assert (row.stage, row.parent) == ("int8@tensorrt-sm87", "int8@onnxruntime")
    assert (row.backend, row.device, row.agreement, row.flips) == ("tensorrt", "cuda:0", 100.0, 0)
    assert row.file_sha256 == sha256_bytes(graphs.classifier())
    assert Bundle.open(bundle.path).row(row.stage) == row
    assert STANDIN.standin_used_memory() == 0


def test_the_gpu_finds_the_best_at_the_temperature_of_the_bundle(bundle):
    with bundle.writing() as writer:
        writer.put(probabilities.NAME, probabilities.Probabilities({"int8": 2.5}).encode())
        bundle = writer.commit("calibrate")
    images = [bundles.pixels(seed, (20 + seed, 30)) for seed in range(5)]
    expected = load(bundle.path, backend="onnxruntime", variant="int8").predict(images)
    model = load(bundle.path, backend="tensorrt", variant="int8")
    assert model.predict(images) == expected
    plain = dataclasses.replace(model, temperature=1.0)
    assert plain.answers(model.logits(model.preprocess(images)), images) != expected
    model.close()
