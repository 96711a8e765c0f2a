from __future__ import annotations

import threading

import numpy as np
import pytest

from tests.runtime import bundles
from tledge.errors import InputError
from tledge.preprocess.frames import Frame
from tledge.runtime import Prediction
from tledge.runtime.sources import Counts, Stream
from tledge.runtime.sources.stills import Images


def answer(label: str) -> Prediction:
    return Prediction("", label, 0, 1.0, ())


def test_two_lanes_answer_a_file_together_and_in_order():
    both = threading.Barrier(2, timeout=60)

    def predict(image: bytes) -> Prediction:
        both.wait()  # ends only if two are there at a time
        return answer(str(image[0]))

    with Stream(Images("file", [bytes([n]) for n in range(20)]), predict, lanes=2) as stream:
        found = [(shot.number, prediction.label) for shot, prediction in stream]
    assert found == [(n, str(n)) for n in range(20)]
    assert stream.counts == Counts(20, 0, 20, 0)


def test_of_a_camera_one_frame_is_answered_at_a_time():
    busy = threading.Lock()

    def predict(image: bytes) -> Prediction:
        assert busy.acquire(blocking=False)
        busy.release()
        return answer("x")

    with Stream(Images("camera", [b"0", b"1"], live=True), predict, lanes=2) as stream:
        assert [prediction.label for _, prediction in stream][-1] == "x"


def test_an_image_that_cannot_be_read_is_an_answer_and_the_stream_goes_on(tmp_path):
    pytest.importorskip("onnxruntime")
    import tledge

    model = tledge.load(bundles.make(tmp_path / "tiny.tledge").path)
    grey = Frame.packed(bytes(range(120)), "grey", 12, 10)
    images = [bundles.png(1), b"no image", tmp_path / "none.png", bundles.pixels(2), grey]
    with model.stream(images) as stream:
        found = list(stream)
    assert [prediction.error is None for _, prediction in found] == [True, False, False, True, True]
    assert found[2][1].file == str(tmp_path / "none.png")
    assert stream.counts == Counts(5, 0, 3, 2)
    pixels = np.repeat(grey.planes[0][:, :, None], 3, axis=2)
    assert found[4][1].top == model.predict(pixels).top


def test_what_a_program_raises_comes_out_after_the_answers_before():
    def images():
        yield b"0"
        raise InputError("the program's own")

    with Stream(Images("images", images()), lambda image: answer("x")) as stream:
        assert next(stream)[1].label == "x"
        with pytest.raises(InputError, match="the program's own"):
            next(stream)
        with pytest.raises(StopIteration):
            next(stream)
