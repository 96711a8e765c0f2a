"""Scoring, gate and choice, with ONNX Runtime in the engine's place: `open_plan` is what a GPU would run."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from tests.engine import networks
from tests.engine.bundles import make_bundle
from tests.runtime.bundles import put_eval
from tledge.bundle import Bundle
from tledge.engine import build, judge
from tledge.engine.build import build_engine
from tledge.engine.builder import Built
from tledge.engine.layers import Report
from tledge.engine.process import Outcome
from tledge.engine.settings import BuildSettings
from tledge.errors import AccuracyError, InputError, MachineError
from tledge.evaluation.images import of_bundle
from tledge.progress import Progress
from tledge.runtime import backends, open_session
from tledge.runtime.engine_manifest import EnginePort, engines
from tledge.runtime.place import Place
from tledge.runtime.tensorrt_library import Library

ORIN = Place("Orin", "sm87", "12.6", "36.4.3")
SETTINGS = BuildSettings("tensorrt", batch=(1, 4, 8))
REPORT = Report("log", (), None, None, ())


class Notes(Progress):
    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Device:
    """A GPU that runs plans, which here are ONNX files, as slowly and as wrongly as it is told to."""

    def __init__(self) -> None:
        self.seconds = {"fp16": 0.002, "int8": 0.0, "fp32": 0.0}
        self.wrong: set[str] = set()
        self.opened = self.closed = 0

    def open_plan(self, library, manifest, plan, *, spec, threads):
        session = open_session(plan, variant=manifest.variant, threads=1, shape=spec.shape)
        infer, seconds = session.infer, self.seconds[manifest.variant]
        sign = -1 if manifest.variant in self.wrong else 1
        self.opened += 1

        def slow(x):
            time.sleep(seconds)
            return sign * infer(x)

        def release() -> None:
            self.closed += 1

        return dataclasses.replace(
            session, infer=slow, backend=manifest.backend, device="cuda:0", release=release
        )


@pytest.fixture
def device(monkeypatch) -> Device:
    found = Device()
    monkeypatch.setattr(judge, "open_plan", found.open_plan)
    monkeypatch.setattr(backends, "missing", lambda name: None)
    monkeypatch.setattr(build, "load", lambda backend: Library(backend, None, "10.3.0"))
    monkeypatch.setattr(build, "this_machine", lambda: ORIN)

    def build_apart(onnx, settings, *, progress, title):
        inputs = (EnginePort("images", "FLOAT", (-1, 3, networks.SIZE, networks.SIZE)),)
        outputs = (EnginePort("logits", "FLOAT", (-1, networks.CLASSES)),)
        return Outcome(Built(onnx.read_bytes(), inputs, outputs, REPORT, (), 1.0), 100)

    monkeypatch.setattr(build, "build_apart", build_apart)
    yield found
    assert found.opened == found.closed, "the GPU's memory is given back"


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    made = make_bundle(tmp_path / "b.tledge", ("fp32", "fp16", "int8"))
    with made.writing() as writer:
        put_eval(writer, 40)
        return writer.commit("finetune")


def made(bundle, precision="auto", **options):
    return build_engine(
        bundle, precision, SETTINGS, **{"rebuild": False, "progress": Progress.silent()} | options
    )


def labelled(bundle: Bundle, right_by: str) -> Bundle:
    """Return the bundle with eval images that its `right_by` answers rightly, so that a flip is a loss."""
    from tledge.bundle import records
    from tledge.evaluation import stage

    images = of_bundle(bundle)
    answers = stage.measure(bundle, right_by, "onnxruntime", images=images).logits.argmax(axis=1)
    index = [
        dataclasses.replace(entry, label=int(label))
        for entry, label in zip(bundle.eval_images(), answers, strict=True)
    ]
    with bundle.writing() as writer:
        writer.put("eval/index.json", records.encode(index))
        writer.commit("finetune")
    return Bundle.open(bundle.path)


def test_an_engine_is_scored_with_its_parent_before_it_is_kept(bundle, device):
    done = made(bundle, "int8")
    (row,) = done.rows
    assert (row.stage, row.parent) == ("int8@tensorrt-sm87", "int8@onnxruntime")
    assert (row.backend, row.device, row.n, row.agreement) == ("tensorrt", "cuda:0", 40, 100.0)
    opened = Bundle.open(bundle.path)
    assert opened.row(row.stage) == row
    assert opened.problems() == ()
    (engine,) = engines(opened)
    assert engine.gate == {"max_drop": 0.5, "drop": 0.0, "drop_low": engine.gate["drop_low"], "n": 40}
    assert row.file_sha256 == engine.plan_sha256
    assert opened.has(f"logits/{row.stage}.npy")
    assert device.opened == 1


def test_auto_keeps_the_faster(bundle, device):
    done = made(bundle)
    assert [engine.variant for engine in done.engines] == ["int8"]
    assert {one.manifest.variant: one.failure for one in done.tried} == {"fp16": "", "int8": ""}
    assert all(one.milliseconds > 0 for one in done.tried)
    assert [row.stage for row in done.rows] == ["int8@tensorrt-sm87"]
    again = made(Bundle.open(bundle.path))
    assert not again.built
    assert again.engines == done.engines

    device.seconds = {"fp16": 0.0, "int8": 0.002}
    other = made(Bundle.open(bundle.path), rebuild=True)
    assert [engine.variant for engine in other.engines] == ["fp16"]
    assert [engine.variant for engine in engines(Bundle.open(bundle.path))] == ["fp16"], "the slower one goes"


def test_auto_takes_no_engine_that_loses_too_much(bundle, device):
    bundle = labelled(bundle, "int8")
    device.wrong = {"int8"}
    done = made(bundle)
    assert [engine.variant for engine in done.engines] == ["fp16"]
    (lost,) = [one for one in done.tried if one.failure]
    assert "loses" in lost.failure
    assert "against int8@onnxruntime, and 0.5 may go" in lost.failure


def test_a_gate_that_fails_changes_nothing(bundle, device):
    bundle = labelled(bundle, "int8")
    before = bundle.names
    device.wrong = {"int8", "fp16"}
    for precision in ("int8", "auto"):
        with pytest.raises(AccuracyError, match=r"int8@tensorrt-sm87 loses .* points of top-1") as caught:
            made(bundle, precision)
        assert caught.value.exit_code == 5
    assert Bundle.open(bundle.path).names == before
    assert made(bundle, "int8", max_drop=100.0).built


def test_auto_needs_images_to_score_on(tmp_path, device):
    bare = make_bundle(tmp_path / "bare.tledge", ("fp32", "fp16", "int8"))
    with pytest.raises(InputError, match="holds no images to score on") as caught:
        made(bare)
    assert caught.value.exit_code == 4
    assert device.opened == 0
    notes = Notes()
    single = made(bare, "int8", progress=notes)
    assert (single.rows, single.engines[0].gate) == ((), {})
    assert any("not scored" in note and "--data" in note for note in notes.notes)


def test_other_images_are_scored_on_and_kept_out_of_the_ledger(bundle, tmp_path, device):
    data = dataclasses.replace(of_bundle(bundle))
    done = made(bundle, data=data)
    assert len(done.rows) == 1
    assert done.engines[0].gate["n"] == 40
    assert Bundle.open(bundle.path).row(done.rows[0].stage) is None


def test_what_cannot_run_here_is_kept_and_said_to_be_untried(bundle, device, monkeypatch):
    monkeypatch.setattr(backends, "missing", lambda name: "no NVIDIA driver")
    notes = Notes()
    done = made(bundle, progress=notes)
    assert [engine.variant for engine in done.engines] == ["fp16", "int8"]
    assert all(engine.gate == {} for engine in done.engines)
    assert [one.milliseconds for one in done.tried] == [None, None]
    assert "built, and not scored nor timed here: no NVIDIA driver" in notes.notes
    assert device.opened == 0


def test_that_nothing_can_be_compared_with_is_known_before_the_build(bundle, device, monkeypatch):
    monkeypatch.setattr(backends, "missing", {"onnxruntime": "onnxruntime is not installed"}.get)
    monkeypatch.setattr(build, "build_apart", None)  # nothing is built
    with pytest.raises(
        MachineError, match=r"the answers of int8@onnxruntime .* nor can they be made"
    ) as caught:
        made(bundle, "int8")
    assert "tledge evaluate" in caught.value.hint


def test_timing_runs_the_usual_batch(bundle, device):
    shapes = []
    session = open_session(networks.network(), threads=1)

    def infer(x):
        shapes.append(x.shape[0])
        return session.infer(x)

    judge.timed([dataclasses.replace(session, infer=infer)], [4])
    assert set(shapes) == {4}
    assert len(shapes) == judge.ROUNDS * judge.RUNS
    assert np.isfinite(judge.timed([session, session], [1, 8])).all()
