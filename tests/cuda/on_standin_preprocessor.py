"""Images to tensors on the GPU, run by test_standin.py where pycuda finds the stand-in for a driver."""

from __future__ import annotations

import ctypes
import hashlib
import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.preprocess.strategies import images, specs
from tests.preprocess.test_frames import frames
from tests.runtime import bundles
from tledge import cuda
from tledge.cli import cli
from tledge.cli.failure import guarded
from tledge.cuda.preprocessor import CudaPreprocessor, ImageBatch
from tledge.errors import InputError, MachineError, TledgeError
from tledge.preprocess import Box, Spec, preprocessor
from tledge.preprocess.golden import CASES, FRAME_CASES, GOLDEN, golden_frames, picture

STANDIN = ctypes.CDLL("libcuda.so.1")
STANDIN.standin_used_memory.restype = ctypes.c_size_t


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert STANDIN.standin_context_depth() == 0
    assert STANDIN.standin_primary_references() == 0
    assert STANDIN.standin_used_memory() == 0
    assert STANDIN.standin_graphs() == 0


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


@settings(max_examples=25, deadline=None)
@given(specs(), st.lists(st.one_of(images(120), frames(100)), max_size=3))
def test_a_batch_has_the_bytes_of_the_host(spec, batch):
    with CudaPreprocessor(spec) as on_gpu:
        for part in (batch, batch[:1]):
            made, expected = on_gpu.batch(part), preprocessor(spec).batch(part)
            assert (made.shape, made.dtype) == (expected.shape, expected.dtype)
            assert made.tobytes() == expected.tobytes()


def test_the_golden_bytes(monkeypatch):
    monkeypatch.setenv("STANDIN_DISCRETE", "1")
    digest = hashlib.sha256()
    for spec in CASES:
        with CudaPreprocessor(spec) as on_gpu:
            digest.update(on_gpu(picture(131, 197)).tobytes())
    assert digest.hexdigest() == GOLDEN
    for spec, expected in FRAME_CASES:
        with CudaPreprocessor(spec) as on_gpu:
            assert hashlib.sha256(on_gpu.batch(golden_frames()).tobytes()).hexdigest() == expected


def test_memory_grows_with_the_largest_batch_and_no_further():
    spec = Spec(Box((16, 16)))
    large = [noise(i, 700, 900 + i) for i in range(5)]
    with CudaPreprocessor(spec) as on_gpu:
        first = STANDIN.standin_used_memory()
        assert on_gpu.batch(large).tobytes() == preprocessor(spec).batch(large).tobytes()
        grown = STANDIN.standin_used_memory()
        assert grown > first
        for _ in range(3):
            on_gpu(large[0])
            on_gpu.batch(large)
        assert STANDIN.standin_used_memory() == grown


def test_out_is_written():
    spec = Spec(Box((8, 9)))
    out = np.zeros((2, *spec.shape), spec.dtype)
    with CudaPreprocessor(spec) as on_gpu:
        assert on_gpu.batch([noise(1, 5, 5), noise(2, 30, 7)], out) is out
        assert on_gpu(noise(2, 30, 7), out[0]) is not None
    assert (out[0] == out[1]).all()
    assert (out[1] == preprocessor(spec)(noise(2, 30, 7))).all()


def test_what_is_wrong_is_refused_in_the_words_of_the_host():
    spec = Spec(Box((8, 8)))
    image = noise(0, 4, 4)
    with CudaPreprocessor(spec) as on_gpu:
        for wrong, out in (
            (image[:, ::-1], None),
            (image.astype(np.float32), None),
            (np.zeros((1, (1 << 20) + 1, 3), np.uint8), None),
            (image, np.zeros((3, 8, 8), np.float64)),
        ):
            with pytest.raises(InputError) as here:
                on_gpu(wrong, out)
            with pytest.raises(InputError) as host:
                preprocessor(spec)(wrong, out)
            assert (str(here.value), here.value.hint) == (str(host.value), host.value.hint)
        assert (on_gpu(image) == preprocessor(spec)(image)).all()
    with pytest.raises(TledgeError, match="is closed"):
        on_gpu(image)


def test_it_belongs_to_its_thread():
    caught = []
    with CudaPreprocessor(Spec(Box((8, 8)))) as on_gpu:

        def elsewhere() -> None:
            try:
                on_gpu(noise(0, 4, 4))
            except TledgeError as error:
                caught.append(str(error))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert caught == ["GPU 0 was opened by another thread"]


def test_too_large_a_batch_leaves_it_closable():
    with CudaPreprocessor(Spec(Box((8, 8)))) as on_gpu:
        wide = np.lib.stride_tricks.as_strided(
            np.zeros(3 << 20, np.uint8), (400, 1 << 20, 3), (3 << 20, 3, 1)
        )
        with pytest.raises(MachineError, match="out of memory"):
            on_gpu(wide)


def test_a_recorded_graph_serves_every_size_and_format():
    spec = Spec(
        Box((20, 24)), layout="NHWC", dtype="uint8", scale=1 / 255, zero_point=0, mean=(0,) * 3, std=(1,) * 3
    )
    host = preprocessor(spec)
    with cuda.Gpu() as gpu:
        batch = ImageBatch(gpu, spec, most=3, room=1 << 20)
        stream, out = gpu.stream(), gpu.allocate(3 * 20 * 24 * 3)
        back = gpu.pinned((3, *spec.shape), np.uint8)
        with gpu.current():
            with cuda.capture(stream) as graph:
                batch.give(stream, 3, out)
                stream.download(back, out)
            frame = golden_frames()
            for images in ([noise(1, 50, 60)], [noise(2, 300, 10), frame[0], noise(3, 7, 9)], frame[3:5]):
                assert batch.fits(images)
                batch.fill(images)
                graph.launch(stream)
                stream.synchronise()
                assert back[: len(images)].tobytes() == host.batch(images).tobytes()
            assert not batch.fits([noise(4, 3, 3)] * 4)
            assert not batch.fits([noise(4, 600, 600)])
            graph.free()
            batch.free()
            out.free()
            del batch, back


def test_the_command_writes_the_tensor_of_the_host(tmp_path, capsys):
    bundle = bundles.make(tmp_path / "b.tledge", ("fp32",), ("fp32@onnxruntime",))
    (tmp_path / "a.png").write_bytes(bundles.png(1))
    hashes = set()
    for using in ("host", "cuda"):
        words = [bundle.path, tmp_path / "a.png", "--with", using, "-o", tmp_path / f"{using}.npy", "--json"]
        assert guarded(cli, ["preprocess", *map(str, words)]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["with"] == using
        hashes.add(document["sha256"])
    assert len(hashes) == 1
