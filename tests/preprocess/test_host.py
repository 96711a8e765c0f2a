"""The compiled kernels: the reference's bytes, for every instruction set and number of threads."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.preprocess.strategies import images, specs
from tledge.errors import InputError, MachineError
from tledge.preprocess import Box, Crop, Letterbox, Spec, host, kernel_check, native, preprocessor
from tledge.preprocess.geometry import window
from tledge.preprocess.golden import CASES, GOLDEN, picture

SETS = tuple(native.instruction_sets())


@pytest.fixture(params=SETS)
def each_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Force one instruction set after the other."""
    monkeypatch.setenv("TLEDGE_INSTRUCTION_SET", request.param)
    return str(request.param)


@settings(max_examples=170, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(specs(), images(), st.integers(1, 4))
def test_reference(each_set: str, spec: Spec, image: np.ndarray, threads: int) -> None:
    reference, kernels = preprocessor(spec, "pillow"), preprocessor(spec, threads=threads)
    pixels = reference.pixels(image)
    assert np.array_equal(kernels.pixels(image), pixels)
    expected = reference.normalise(pixels).tobytes()
    assert kernels(image).tobytes() == expected
    assert kernels.normalise(pixels).tobytes() == expected


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_golden(each_set: str, threads: int) -> None:
    digest = hashlib.sha256()
    for spec in CASES:
        digest.update(preprocessor(spec, threads=threads)(picture(131, 197)).tobytes())
    assert digest.hexdigest() == GOLDEN


def test_golden_is_the_references() -> None:
    tensors = [preprocessor(spec, "pillow")(picture(131, 197)).tobytes() for spec in CASES]
    assert hashlib.sha256(b"".join(tensors)).hexdigest() == GOLDEN


# A scale for each way in which the wide kernels gather, large images (which are shared among threads), the
# longest and the narrowest.
@pytest.mark.parametrize(
    ("size", "spec"),
    [
        ((375, 500), Spec()),
        ((1080, 1920), Spec(filter="bicubic")),
        ((2160, 3840), Spec(filter="lanczos")),
        ((1, 65535), Spec(geometry=Box((31, 47)), filter="hamming")),
        ((65535, 1), Spec(geometry=Letterbox((33, 16)))),
        ((1, 65535), Spec(geometry=Crop(64, (33, 17)))),
        ((65535, 2), Spec(geometry=Crop(32, (32, 32)), filter="nearest")),
        ((1, 1), Spec(filter="lanczos")),
        ((2, 2), Spec(geometry=Box((1, 1)))),
        ((50, 50), Spec(geometry=Box((500, 501)), filter="bicubic")),
    ],
)
def test_shapes(each_set: str, size: tuple[int, int], spec: Spec) -> None:
    image = picture(*size)
    expected = preprocessor(spec, "pillow")(image)
    for threads in (1, 3):
        assert np.array_equal(preprocessor(spec, threads=threads)(image), expected)


def test_reads_nothing_beside_the_image(each_set: str) -> None:
    """An image that ends where its memory ends, and begins where it begins."""
    import mmap

    page = mmap.PAGESIZE
    for height, width in ((3, 5), (40, 61), (97, 64)):
        size = height * width * 3
        pages = -(-size // page)
        with mmap.mmap(-1, pages * page) as memory:
            image = np.frombuffer(memory, np.uint8)[pages * page - size :].reshape(height, width, 3)
            image[:] = picture(height, width)
            for spec in (Spec(geometry=Box((30, 40))), Spec(geometry=Crop(20, (16, 16)), filter="lanczos")):
                assert np.array_equal(preprocessor(spec)(image), preprocessor(spec, "pillow")(image))
            del image


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_batch(threads: int) -> None:
    spec = Spec(geometry=Crop(64, (48, 56)), dtype="float16")
    several = [picture(50 + 7 * i, 200 - 9 * i) for i in range(13)]
    expected = preprocessor(spec, "pillow").batch(several)
    kernels = preprocessor(spec, threads=threads)
    out = np.zeros((13, *spec.shape), np.float16)
    assert kernels.batch(iter(several), out) is out
    assert np.array_equal(out, expected)
    assert kernels.batch([]).shape == (0, *spec.shape)


def test_many_threads_at_once() -> None:
    spec = Spec(geometry=Crop(64, (56, 56)))
    kernels = preprocessor(spec, threads=2)
    several = [picture(60 + i, 300 - i) for i in range(100)]
    reference = preprocessor(spec, "pillow")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for made, image in zip(pool.map(kernels, several), several, strict=True):
            assert np.array_equal(made, reference(image))


def test_fork() -> None:
    """A child of a process whose pool has run starts a pool of its own, and does not hang."""
    code = """
        import os, sys
        import numpy as np
        from tledge.preprocess import Spec, preprocessor
        from tledge.preprocess.golden import picture

        image = picture(1080, 1920)
        kernels = preprocessor(Spec(), threads=2)
        expected = kernels(image)
        for _ in range(20):
            child = os.fork()
            if child == 0:
                os._exit(0 if np.array_equal(kernels.batch([image] * 3)[2], expected) else 1)
            if os.waitpid(child, 0)[1] != 0:
                sys.exit(1)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=300)


def test_unknown_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLEDGE_INSTRUCTION_SET", "sse9")
    with pytest.raises(InputError, match="sse9"):
        preprocessor(Spec())


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    native.library.cache_clear()
    native.instruction_sets.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(native, "LIBRARY", native.LIBRARY.with_name("none.so"))
        with pytest.raises(MachineError, match="missing"):
            preprocessor(Spec())
    assert preprocessor(Spec()).spec == Spec()


def test_check() -> None:
    found = kernel_check.check()
    assert found.exact
    assert found.instruction_set in SETS
    assert found.threads == len(os.sched_getaffinity(0))


@settings(max_examples=40, deadline=None)
@given(specs(), images(150))
def test_coefficients_are_the_resampling(spec: Spec, image: np.ndarray) -> None:
    place = window(spec.geometry, image.shape[1], image.shape[0])
    columns, rows = host.HostPreprocessor(spec).coefficients(image)

    def resampled(lines: np.ndarray, axis: np.ndarray, outputs: int) -> np.ndarray:
        first, count = axis[:outputs], axis[outputs : 2 * outputs]
        weights = axis[2 * outputs :].reshape(outputs, -1)
        sums = [
            np.tensordot(weights[i, : count[i]].astype(np.int64), lines[first[i] : first[i] + count[i]], 1)
            for i in range(outputs)
        ]
        return np.clip((np.stack(sums) + (1 << 21)) >> 22, 0, 255)

    wide = resampled(image.transpose(1, 0, 2), columns, place.width).transpose(1, 0, 2)
    expected = host.HostPreprocessor(spec).pixels(image)[place.pad_top :, place.pad_left :]
    assert np.array_equal(resampled(wide, rows, place.height), expected[: place.height, : place.width])


def test_plans_are_kept_and_let_go() -> None:
    kernels = host.HostPreprocessor(Spec(geometry=Box((8, 8))))
    for width in range(1, 200):
        kernels(picture(5, width))
    assert len(kernels._plans) <= host.PLANS_KEPT
    assert np.array_equal(kernels(picture(5, 1)), preprocessor(kernels.spec, "pillow")(picture(5, 1)))
