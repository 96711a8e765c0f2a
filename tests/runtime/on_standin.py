"""The pipeline, run by test_pipeline.py where pycuda finds the stand-in instead of a driver."""

from __future__ import annotations

import ctypes
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import TensorProto

from tests.runtime import bundles, graphs
from tests.runtime.host_engine import HostEngine
from tledge.cuda import Gpu
from tledge.errors import InputError, MachineError, TledgeError
from tledge.preprocess import preprocessor
from tledge.preprocess.golden import golden_frames
from tledge.runtime import open_session
from tledge.runtime.lane import BEST, Lane
from tledge.runtime.pipeline import Pipeline
from tledge.runtime.postprocess import top

STANDIN = ctypes.CDLL("libcuda.so.1")
STANDIN.standin_used_memory.restype = STANDIN.standin_copied_back.restype = ctypes.c_size_t
BATCH = (1, 4, 6)


def nothing_is_left() -> bool:
    return not (
        STANDIN.standin_context_depth()
        or STANDIN.standin_primary_references()
        or STANDIN.standin_used_memory()
        or STANDIN.standin_graphs()
        or STANDIN.standin_events()
    )


@pytest.fixture(params=["shared memory", "memory of its own"])
def pipeline(request, monkeypatch):
    if request.param == "memory of its own":
        monkeypatch.setenv("STANDIN_DISCRETE", "1")
    opened = Pipeline(Gpu(), HostEngine(graphs.classifier(), BATCH))
    yield opened
    opened.close()
    opened.close()
    assert opened.engine.freed == 1, "before the GPU is closed"
    assert nothing_is_left()


def images(count: int, seed: int = 0) -> np.ndarray:
    prepare = preprocessor(bundles.spec())
    return prepare.batch([bundles.pixels(seed + i, (30 + i, 40)) for i in range(count)])


def test_the_answers_are_those_of_the_host(pipeline):
    session = open_session(graphs.classifier(), threads=1)
    for count in (1, 2, 3, 4, 5, 6, 1):
        x = images(count, seed=count)
        answer = pipeline.infer(x)
        assert answer.dtype == np.float32
        assert (answer == session.run(x)).all()


def test_all_is_ready_before_the_first_frame(pipeline):
    engine = pipeline.engine
    # Two lanes; in each, each size ran once to set itself up and once from its graph.
    assert engine.runs == 2 * [1, 1, 2, 2, 4, 4, 6, 6]
    assert STANDIN.standin_graphs() == 8
    used = STANDIN.standin_used_memory()
    for _ in range(50):
        pipeline.infer(images(3))
    assert engine.runs[16:] == 50 * [4], "a batch of three runs as one of four"
    assert STANDIN.standin_used_memory() == used


def test_answers_are_views_of_a_lane_that_is_lent(pipeline):
    with pipeline.lane() as lane, pipeline.lane() as other:
        lane.images[:2], other.images[:2] = images(2, seed=1), images(2, seed=5)
        lane.run(2)
        other.run(2)
        first, second = lane.logits(2), other.logits(2)
        assert not first.flags.owndata
        assert np.shares_memory(first, lane.logits(1))
        assert not np.shares_memory(first, second)
        assert (first != second).any()


def test_threads_share_it(pipeline):
    session = open_session(graphs.classifier(), threads=1)
    frames = [images(1 + seed % 6, seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(pipeline.infer, frames))
    for x, answer in zip(frames, answers, strict=True):
        assert (answer == session.run(x)).all()


@pytest.fixture(params=["shared memory", "memory of its own"])
def from_pixels(request, monkeypatch):
    """Return a pipeline whose lanes take pixels."""
    if request.param == "memory of its own":
        monkeypatch.setenv("STANDIN_DISCRETE", "1")
    opened = Pipeline(Gpu(), HostEngine(graphs.classifier(), BATCH), spec=bundles.spec())
    yield opened
    opened.close()
    assert nothing_is_left()


def answered(lane: Lane, images: list) -> np.ndarray:
    """Return the logits of images that fit into the lane."""
    assert lane.run_pixels(images)
    return lane.logits(len(images)).copy()


def decoded(seed: int, count: int) -> list:
    """Return images and camera frames of sizes and formats that the seed draws."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 90, (count, 2))
    frames = golden_frames()
    return [
        frames[random.integers(len(frames))] if random.random() < 0.4 else bundles.pixels(seed, tuple(size))
        for size in sizes
    ]


def test_one_graph_serves_pixels_of_every_size_and_format(from_pixels):
    session, prepare = open_session(graphs.classifier(), threads=1), preprocessor(bundles.spec())
    recorded, used = STANDIN.standin_graphs(), STANDIN.standin_used_memory()
    assert recorded == 2 * 2 * 4, "in two lanes, from tensors and from pixels, for 1, 2, 4 and 6 images"
    for seed in range(12):
        images = decoded(seed, 1 + seed % 6)
        tensors = prepare.batch(images)
        with from_pixels.lane() as lane:
            answer = answered(lane, images)
            # Where the engine reads them lie the host's bytes; a GPU with memory of its own gives no look.
            if from_pixels._gpu.shares_memory:
                assert lane.images[: len(images)].tobytes() == tensors.tobytes()
        assert (answer == session.run(tensors)).all()
        assert (from_pixels.infer(tensors) == answer).all(), "the other road, on the same memory"
    assert (STANDIN.standin_graphs(), STANDIN.standin_used_memory()) == (recorded, used)


def test_a_graph_with_events_tells_the_stages_and_gives_the_same_answers(from_pixels):
    shared = from_pixels._gpu.shares_memory
    from_pixels.engine.seconds = 0.02
    recorded = STANDIN.standin_graphs()
    with from_pixels.lane() as lane:
        lane.images[:3] = images(3)
        lane.run(3)
        expected = lane.top(3, BEST)
        assert STANDIN.standin_graphs() == recorded, "who asks for no times has no graph with events"
        stages = ["infer", "postprocess"] if shared else ["upload", "infer", "postprocess", "download"]
        runs = []
        for _ in range(5):
            runs.append(lane.run_timed(3))
            assert lane.top(3, BEST) == expected
            assert list(runs[-1]) == stages
            assert runs[-1]["infer"] >= 20
        # The shortest of each: a busy machine may hold up any.
        assert max(min(taken[stage] for taken in runs) for stage in stages if stage != "infer") < 20
        frames = decoded(4, 3)
        assert lane.run_pixels(frames)
        expected = lane.top(3, BEST)
        lane.run_pixels(decoded(5, 3))
        taken = lane.run_timed(3, frames)
        assert lane.top(3, BEST) == expected
        stages = ["upload", "preprocess", "infer", "postprocess", *([] if shared else ["download"])]
        assert list(taken) == stages
        assert lane.run_timed(1, [np.zeros((3000, 4000, 3), np.uint8)]) is None
    assert STANDIN.standin_graphs() == recorded + 2, "one from tensors and one from pixels, recorded once"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_best_classes_are_found_in_the_graph_with_the_bits_of_the_host(monkeypatch, dtype):
    monkeypatch.setenv("STANDIN_DISCRETE", "1")
    flatten = [graphs.helper.make_node("Flatten", ["x"], ["y"])]  # 768 pixels are as many classes
    ends = [graphs.value("x", ["N", 3, 16, 16])], [graphs.value("y", ["N", 768])]
    engine = HostEngine(graphs.graph(flatten, *ends), BATCH, logits=dtype)
    pipeline = Pipeline(Gpu(), engine, lanes=1, spec=bundles.spec(), temperature=1.7)
    copied = STANDIN.standin_copied_back()
    with pipeline.lane() as lane:
        lane.images[:3] = images(3)
        lane.run(3)
        assert lane.top(3, 2)
        # For a batch of four: five indices and probabilities each, and no logits.
        assert STANDIN.standin_copied_back() - copied == 4 * BEST * (4 + 4)
        logits = engine.session.run(images(3)).astype(dtype)
        for k in (1, BEST, BEST + 1, 100):
            assert lane.top(3, k) == top(logits, k, 1.7)
        assert (lane.logits(3) == logits).all()
        frames = decoded(4, 3)
        assert lane.run_pixels(frames)
        assert lane.top(3, BEST) == top(lane.logits(3), BEST, 1.7)
        lane.images[:] = np.nan
        lane.run(2)
        with pytest.raises(InputError, match="not finite numbers"):
            lane.top(2, 1)
    pipeline.close()
    assert nothing_is_left()


def test_threads_share_the_lanes_for_pixels(from_pixels):
    session, prepare = open_session(graphs.classifier(), threads=1), preprocessor(bundles.spec())
    batches = [decoded(seed, 1 + seed % 4) for seed in range(30)]

    def answer(images: list) -> np.ndarray:
        with from_pixels.lane() as lane:
            return answered(lane, images)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(answer, batches))
    for images, logits in zip(batches, answers, strict=True):
        assert (logits == session.run(prepare.batch(images))).all()


def test_what_does_not_fit_or_is_no_image_leaves_the_lane_as_it_was(from_pixels, monkeypatch):
    image = bundles.pixels(1)
    with from_pixels.lane() as lane:
        known = answered(lane, [image])
        assert not lane.run_pixels([np.zeros((3000, 4000, 3), np.uint8)])
        assert not lane.run_pixels([image] * 7)
        for wrong in (image.astype(np.float32), np.zeros((1, 1 << 21, 3), np.uint8)):
            with pytest.raises(InputError):
                lane.run_pixels([image, wrong])
        assert (answered(lane, [image]) == known).all()


def test_without_a_specification_no_pixels_are_taken(pipeline):
    with pipeline.lane() as lane:
        assert not lane.run_pixels([bundles.pixels(1)])


def test_a_thread_waits_for_a_lane(pipeline):
    with pipeline.lane(), pipeline.lane():
        done = threading.Event()
        thread = threading.Thread(target=lambda: (pipeline.infer(images(1)), done.set()))
        thread.start()
        assert not done.wait(0.05)
    thread.join(60)
    assert done.is_set()


def test_more_images_than_the_engine_takes_are_refused(pipeline):
    with pytest.raises(InputError, match="takes at most 6 images at once, and was given 7") as caught:
        pipeline.infer(images(7))
    assert "--batch 1:4:7" in caught.value.hint
    assert len(pipeline.infer(images(6))) == 6


@pytest.mark.parametrize(("kind", "name"), [(TensorProto.FLOAT16, "float16"), (TensorProto.UINT8, "uint8")])
def test_the_input_moves_in_the_type_of_the_graph(monkeypatch, kind, name):
    monkeypatch.setenv("STANDIN_DISCRETE", "1")
    if name == "uint8":  # a quarter of the bytes of float32
        nodes = [graphs.helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT)]
        nodes.append(graphs.helper.make_node("ReduceMean", ["f", "axes"], ["y"], keepdims=0))
        axes = graphs.numpy_helper.from_array(np.array([2, 3]), "axes")
        onnx = graphs.graph(
            nodes, [graphs.value("x", ["N", 3, 16, 16], kind)], [graphs.value("y", ["N", 3])], [axes]
        )
    else:
        onnx = graphs.classifier(dtype=kind)
    engine = HostEngine(onnx, (2, 2, 2))
    pipeline = Pipeline(Gpu(), engine, lanes=1)
    with pipeline.lane() as lane:
        assert lane.images.nbytes == 2 * 3 * 16 * 16 * np.dtype(name).itemsize
    x = np.random.default_rng(0).integers(0, 200, (2, 3, 16, 16)).astype(name)
    assert (pipeline.infer(x) == engine.session.run(x)).all()
    pipeline.close()
    assert nothing_is_left()


def test_it_is_closed_where_it_was_opened_or_by_itself(pipeline):
    with ThreadPoolExecutor(1) as pool, pytest.raises(TledgeError, match="opened by another thread"):
        pool.submit(pipeline.close).result()
    assert len(pipeline.infer(images(1))) == 1
    dropped = Pipeline(Gpu(), HostEngine(graphs.classifier(), BATCH))
    used = STANDIN.standin_graphs()
    del dropped
    assert STANDIN.standin_graphs() == used // 2


def test_what_does_not_fit_leaves_nothing_allocated():
    engine = HostEngine(graphs.classifier(), BATCH)
    engine.scratch = 700 << 20  # the second lane's does not fit any more
    with pytest.raises(MachineError, match=r"out of memory: allocating 700\.0 MiB") as caught:
        Pipeline(Gpu(), engine)
    assert caught.value.exit_code == 3
    assert nothing_is_left()
    engine.scratch = 700 << 10
    pipeline = Pipeline(Gpu(), engine)
    assert len(pipeline.infer(images(1))) == 1
    pipeline.close()
