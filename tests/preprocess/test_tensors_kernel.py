"""The GPU's preprocessing kernel: the host's bytes on an emulated grid, and no spilled registers."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cuda import standin
from tests.preprocess.strategies import images, specs
from tests.preprocess.test_frames import frames
from tledge.cuda.arena import HEADER, TASK, Arena
from tledge.errors import InputError
from tledge.preprocess import Box, Crop, Letterbox, Spec, preprocessor
from tledge.preprocess.frames import Frame
from tledge.preprocess.tables import normalisation

KERNELS = Path(__file__).parents[2] / "kernels"
TILE = 16
Run = Callable[[Spec, Sequence[np.ndarray | Frame], int], np.ndarray]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Return the kernels, compiled for the CPU."""
    return ctypes.CDLL(str(standin.build_kernels(tmp_path_factory.mktemp("kernels"))))


@pytest.fixture(scope="module")
def run(grid: ctypes.CDLL) -> Run:
    """Return what makes a batch of tensors by the kernel, from an arena with room for `most` images."""

    def run(spec: Spec, batch: Sequence[np.ndarray | Frame], most: int) -> np.ndarray:
        empty = np.full(HEADER + most * TASK.itemsize + 16, 0xEE, np.uint8)
        memory = np.full(Arena(spec, empty, most).needed(batch), 0xEE, np.uint8)
        arena = Arena(spec, memory, most)
        arena.fill(batch)
        table, out = normalisation(spec), np.empty((most, *spec.shape), spec.dtype)
        there = np.full_like(memory, 0x77)
        launch(grid.upload__host, (3, 1, 1), (8, 1, 1), struct.pack("PP", *map(address, (memory, there))))
        rows, columns = spec.size
        numbers = columns, rows, out.itemsize, spec.layout == "NHWC", spec.decode.colour == "bgr"
        packed = struct.pack("PPPiiiii", *map(address, (there, table, out)), *numbers)
        launch(grid.tensors__host, (-(-columns // TILE), -(-rows // TILE), most), (TILE, TILE, 1), packed)
        return out

    return run


def address(array: np.ndarray) -> int:
    return array.ctypes.data


def launch(function: ctypes._CFuncPtr, grid: Sequence[int], block: Sequence[int], packed: bytes) -> None:
    three = ctypes.c_uint * 3
    assert function(three(*grid), three(*block), 0, packed) == 0


def test_tasks_are_laid_out_as_the_kernel_reads_them(grid: ctypes.CDLL) -> None:
    assert grid.tensors_task_bytes() == TASK.itemsize


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(specs(), st.lists(st.one_of(images(200), frames()), min_size=1, max_size=3), st.integers(0, 2))
def test_a_grid_gives_the_bytes_of_the_host(
    run: Run, spec: Spec, batch: list[np.ndarray | Frame], spare: int
) -> None:
    made = run(spec, batch, len(batch) + spare)
    assert made[: len(batch)].tobytes() == preprocessor(spec).batch(batch).tobytes()


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (Spec(Box((20, 40))), (3000, 5)),  # tiles of 2400 rows
        (Spec(Crop(32, (32, 32)), filter="lanczos"), (700, 690)),
        (Spec(Letterbox((64, 33)), filter="bicubic"), (4000, 40)),
    ],
)
def test_tiles_that_do_not_fit_are_resampled_from_the_source(
    run: Run, spec: Spec, shape: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    grey = Frame("grey", shape[1], shape[0], (np.ascontiguousarray(pixels[:, :, 0]),))
    assert run(spec, [pixels, grey], 2).tobytes() == preprocessor(spec).batch([pixels, grey]).tobytes()


def test_only_the_window_is_taken() -> None:
    spec = Spec(Crop(100, (100, 100)))
    arena = Arena(spec, np.zeros(1000, np.uint8), 1)
    whole, square = np.zeros((500, 2000, 3), np.uint8), np.zeros((500, 500, 3), np.uint8)
    assert arena.needed([whole]) < 1.1 * arena.needed([square])


def test_what_is_no_image_is_refused_as_on_the_host() -> None:
    spec = Spec(Box((8, 8)))
    arena = Arena(spec, np.zeros(1000, np.uint8), 1)
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((1, 1 << 21, 3), np.uint8), b""):
        with pytest.raises(InputError) as here:
            arena.needed([wrong])
        with pytest.raises(InputError) as host:
            preprocessor(spec).batch([wrong])
        assert (str(here.value), here.value.hint) == (str(host.value), host.value.hint)
