"""What tledge.cuda does, run by test_standin.py where pycuda finds the stand-in instead of a driver."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tledge import cuda
from tledge.cuda.raw import call
from tledge.cuda.topk import TopK
from tledge.errors import InputError, MachineError, TledgeError, UsageError
from tledge.runtime.postprocess import ranked, top

ROOT = Path(__file__).parents[2]
STANDIN = ctypes.CDLL("libcuda.so.1")
STANDIN.standin_used_memory.restype = ctypes.c_size_t
HOST = ctypes.CDLL(os.environ["STANDIN_KERNELS"])
IMAGE = b"\x7fELF stands for a cubin: the stand-in looks at its first bytes only"


@pytest.fixture
def gpu():
    with cuda.Gpu() as opened:
        yield opened
    assert STANDIN.standin_context_depth() == 0
    assert STANDIN.standin_primary_references() == 0
    assert STANDIN.standin_used_memory() == 0, "memory was not given back"


def test_what_it_is(gpu):
    assert (gpu.name, gpu.architecture, gpu.index) == ("stand-in GPU", "sm87", 0)
    assert gpu.cuda == 13
    assert gpu.memory() == (1 << 30, 1 << 30)
    assert gpu.shares_memory


def test_there_is_no_second_one():
    with pytest.raises(UsageError, match="no GPU 1"):
        cuda.Gpu(1)


def test_copies_there_and_back(gpu):
    stream, buffer = gpu.stream(), gpu.allocate(1000)
    sent, back = gpu.pinned((10, 100), np.uint8), gpu.pinned((10, 100), np.uint8)
    sent[:] = np.random.default_rng(0).integers(0, 256, sent.shape)
    back[:] = 7
    with gpu.current():
        stream.upload(buffer, sent)
        stream.download(back, buffer)
        assert (back == 7).all(), "nothing is done before somebody waits for it"
        stream.synchronise()
    assert (back == sent).all()
    buffer.free()
    buffer.free()


def test_memory_that_is_not_page_locked_may_be_reused_at_once(gpu):
    stream, buffer = gpu.stream(), gpu.allocate(100)
    array, back = np.arange(100, dtype=np.uint8), np.zeros(100, np.uint8)
    with gpu.current():
        stream.upload(buffer, array)
        array[:] = 0
        stream.download(back, buffer)
        stream.synchronise()
    assert (back == np.arange(100)).all()
    buffer.free()


def test_copies_that_do_not_fit_are_refused(gpu):
    stream, buffer = gpu.stream(), gpu.allocate(8)
    with gpu.current():
        with pytest.raises(ValueError, match="9 bytes do not fit into a buffer of 8"):
            stream.upload(buffer, np.zeros(9, np.uint8))
        with pytest.raises(ValueError, match="not contiguous"):
            stream.download(np.zeros((4, 4), np.uint8)[:, :2], buffer)
        buffer.free()
        with pytest.raises(ValueError, match="freed"):
            stream.upload(buffer, np.zeros(1, np.uint8))


def rows_on_gpu(gpu, pixels, starts, weights):
    """Return what the kernel makes of the rows."""
    height, width, taps = len(pixels), *weights.shape
    kernel = gpu.load(IMAGE).kernel("resample_rows", "PPPPiiii")
    stream = gpu.stream()
    out = gpu.pinned((height, width), np.uint8)
    arrays = [pixels, starts, weights]
    buffers = [gpu.allocate(array.nbytes) for array in arrays] + [gpu.allocate(out.nbytes)]
    with gpu.current():
        for buffer, array in zip(buffers, arrays, strict=False):
            stream.upload(buffer, array)
        grid = (-(-width // 32), -(-height // 8), 1)
        kernel.launch(stream, grid, (32, 8, 1), *buffers, height, width, pixels.shape[1], taps)
        stream.download(out, buffers[3])
        stream.synchronise()
    for buffer in buffers:
        buffer.free()
    return np.array(out)


@pytest.mark.parametrize(("height", "source", "width"), [(1, 3, 1), (5, 40, 13), (33, 100, 65), (8, 64, 32)])
def test_a_kernel_gives_the_bits_of_its_source(gpu, height, source, width):
    random = np.random.default_rng(source)
    taps = min(3, source)
    pixels = random.integers(0, 256, (height, source)).astype(np.uint8)
    starts = random.integers(0, source - taps + 1, width).astype(np.int32)
    weights = random.integers(-(1 << 20), 1 << 22, (width, taps)).astype(np.int32)
    expected = np.empty((height, width), np.uint8)
    for x in range(width):  # Pillow's integers, written out
        window = pixels[:, starts[x] : starts[x] + taps].astype(np.int64)
        expected[:, x] = np.clip(((window @ weights[x].astype(np.int64)) + (1 << 21)) >> 22, 0, 255)
    assert (rows_on_gpu(gpu, pixels, starts, weights) == expected).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("images", "classes", "k"), [(1, 1, 1), (3, 5, 5), (2, 1000, 5), (1, 300, 300)])
def test_the_best_classes_have_the_bits_of_the_host(gpu, dtype, images, classes, k):
    logits = gpu.mapped((images, classes), dtype)
    logits.array[:] = np.random.default_rng(classes).normal(0, 4, (images, classes)).round(2)
    indices, probabilities = gpu.mapped((images, k), np.int32), gpu.mapped((images, k), np.float32)
    stream, search = gpu.stream(), TopK(gpu, dtype, classes, k, 0.8)
    with gpu.current():
        search.give(stream, logits, images, indices, probabilities)
        stream.synchronise()
    assert ranked(indices.array, probabilities.array) == top(logits.array, k, 0.8)
    logits.array[-1, -1] = np.nan
    with gpu.current():
        search.give(stream, logits, images, indices, probabilities)
        stream.synchronise()
    with pytest.raises(InputError, match="not finite"):
        ranked(indices.array, probabilities.array)


def scale_add(gpu, count, x, y, out, a, stream, kernel):
    kernel.launch(stream, (-(-count // 64), 1, 1), (64, 1, 1), x, y, out, a, count)


def test_floats_are_rounded_after_each_operation(gpu):
    count = 1000
    random = np.random.default_rng(1)
    x, y, out = (gpu.mapped((count,), np.float32) for _ in range(3))
    x.array[:], y.array[:] = random.standard_normal((2, count))
    stream, kernel = gpu.stream(), gpu.load(IMAGE).kernel("scale_add", "PPPfi")
    with gpu.current():
        scale_add(gpu, count, x, y, out, 1.1, stream, kernel)
        stream.synchronise()
    assert (out.array == np.float32(1.1) * x.array + y.array).all()


def test_a_graph_is_recorded_once_and_launched_often(gpu):
    count = 500
    stream, kernel = gpu.stream(), gpu.load(IMAGE).kernel("scale_add", "PPPfi")
    sent, back = gpu.pinned((count,), np.float32), gpu.pinned((count,), np.float32)
    there, out = gpu.allocate(sent.nbytes), gpu.allocate(back.nbytes)
    with gpu.current():
        with cuda.capture(stream) as graph:
            stream.upload(there, sent)
            scale_add(gpu, count, there, there, out, 2.0, stream, kernel)
            stream.download(back, out)
        back[:] = -1
        stream.synchronise()
        assert (back == -1).all(), "recording runs nothing"
        before = gpu.memory()
        for value in range(200):
            sent[:] = value
            graph.launch(stream)
            stream.synchronise()
            assert (back == 3 * value).all()
        assert gpu.memory() == before
        graph.free()
        graph.free()
    assert STANDIN.standin_graphs() == 0
    for buffer in (there, out):
        buffer.free()


def test_a_recording_that_fails_leaves_the_stream_usable(gpu):
    stream, buffer = gpu.stream(), gpu.allocate(4)
    back = gpu.pinned((4,), np.uint8)
    with gpu.current():
        with pytest.raises(ZeroDivisionError), cuda.capture(stream):
            stream.upload(buffer, back[: 1 // 0])
        with pytest.raises(TledgeError, match="not permitted when stream is capturing"), cuda.capture(stream):
            stream.synchronise()
        back[:] = 5
        stream.upload(buffer, back)
        stream.synchronise()
    assert STANDIN.standin_graphs() == 0
    buffer.free()


def test_one_stream_waits_for_another(gpu):
    first, second, mark = gpu.stream(), gpu.stream(), gpu.event()
    sent, back = gpu.pinned((8,), np.uint8), gpu.pinned((8,), np.uint8)
    sent[:], back[:] = 3, 0
    buffer = gpu.allocate(8)
    with gpu.current():
        first.upload(buffer, sent)
        mark.record(first)
        second.wait(mark)
        second.download(back, buffer)
        second.synchronise()
    assert (back == 3).all()
    buffer.free()


def test_events_measure(gpu):
    stream, start, end = gpu.stream(), gpu.event(), gpu.event()
    with gpu.current():
        start.record(stream)
        end.record(stream)
        end.synchronise()
        assert 0 <= end.milliseconds_since(start) < 60_000


def test_marks_in_a_graph_keep_the_time_of_each_step(gpu):
    stream, marks = gpu.stream(), cuda.Marks()
    buffer, sent = gpu.allocate(8), gpu.pinned((8,), np.uint8)
    nap = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: time.sleep(0.02))
    events = STANDIN.standin_events()
    with gpu.current():
        with cuda.capture(stream) as graph:
            for step in ("begin", "copy", "nap", "copy"):
                if step == "copy":
                    stream.upload(buffer, sent)
                if step == "nap":
                    call("cuLaunchHostFunc", ctypes.c_void_p(stream.handle), nap, ctypes.c_void_p())
                marks.place(stream, step)
        copies = []
        for _ in range(5):
            graph.run(gpu, stream)
            taken = marks.milliseconds()
            assert list(taken) == ["copy", "nap"]
            assert taken["nap"] >= 20
            copies.append(taken["copy"])
        assert 0 <= min(copies) < 20  # the shortest: a busy machine may hold up any
        with pytest.raises(TledgeError, match="invalid argument"):
            marks.place(stream, "outside of a capture")
        graph.free()
        marks.free()
        marks.free()
    assert STANDIN.standin_events() == events
    buffer.free()


def test_too_much_memory_is_refused_and_nothing_is_lost(gpu):
    with pytest.raises(MachineError, match=r"out of memory: allocating 2048\.0 MiB") as caught:
        gpu.allocate(2 << 30)
    assert "smaller batch" in caught.value.hint
    for _ in range(100):
        gpu.allocate(100 << 20).free()
    assert gpu.memory()[0] == 1 << 30


def test_bad_images_and_kernels_are_refused(gpu):
    with pytest.raises(TledgeError, match=r"loading kernels.*image is invalid"):
        gpu.load(b"no image of a kernel at all")
    with pytest.raises(TledgeError, match="no kernel absent"):
        gpu.load(IMAGE).kernel("absent", "P")
    kernel, stream = gpu.load(IMAGE).kernel("scale_add", "PPPfi"), gpu.stream()
    with gpu.current(), pytest.raises(TledgeError, match="launching scale_add"):
        kernel.launch(stream, (1, 1, 1), (2048, 1, 1), 0, 0, 0, 1.0, 0)


def test_what_an_old_driver_lacks_is_named(gpu):
    with gpu.current(), pytest.raises(MachineError, match="no cuGraphOfTheFuture: it is older than CUDA 12"):
        call("cuGraphOfTheFuture")


def test_the_functions_called_by_hand_tell_of_memory_too(gpu):
    address = ctypes.c_ulonglong()
    with gpu.current(), pytest.raises(MachineError, match="out of memory: cuMemAlloc_v2") as caught:
        call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(2 << 30))
    assert "smaller batch" in caught.value.hint


def test_it_belongs_to_its_thread(gpu):
    caught = []

    def elsewhere() -> None:
        try:
            gpu.allocate(1)
        except TledgeError as error:
            caught.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert caught == ["GPU 0 was opened by another thread"]


def test_each_thread_may_open_its_own():
    done = []

    def work() -> None:
        with cuda.Gpu() as own:
            own.allocate(100).free()
            done.append(own.name)

    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(done) == 3
    assert STANDIN.standin_primary_references() == 0


def test_current_may_be_nested_and_ends(gpu):
    with gpu.current():
        with gpu.current():
            assert STANDIN.standin_context_depth() == 1
        assert STANDIN.standin_context_depth() == 1
        with pytest.raises(ZeroDivisionError), gpu.current():
            raise ZeroDivisionError
    assert STANDIN.standin_context_depth() == 0


def test_a_closed_one_says_so():
    gpu = cuda.Gpu()
    gpu.close()
    gpu.close()
    with pytest.raises(TledgeError, match="GPU 0 is closed"):
        gpu.memory()
