"""Images to tensors by the compiled kernels: the bits of the reference, at a small part of its time."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tledge.errors import InputError, MachineError
from tledge.preprocess.frames import FORMATS, Frame, plane_shapes, resizes_planes
from tledge.preprocess.geometry import jpeg_scale, window
from tledge.preprocess.images import Pixels, Tensor, check_image, check_out, check_pixels
from tledge.preprocess.native import FILTERS, CFrame, CGeometry, instruction_set, instruction_sets, library
from tledge.preprocess.spec import Letterbox, Spec
from tledge.preprocess.tables import CHANNELS, lines, normalisation

# Plans kept: a folder of photographs has some tens of sizes, and a plan holds about 100 KB.
PLANS_KEPT = 64
# Pixels of a JPEG beyond which it is left to the decoder that refuses it in words.
LARGEST_JPEG = 100_000_000
# Answers of the library (kernels/abi.cpp).
NO_MEMORY, UNSUPPORTED = -2, -3


class _Handle:
    """An object of the library, freed when nobody holds it; a running call does."""

    def __init__(self, pointer: int | None, free: str) -> None:
        if not pointer:
            raise MachineError(
                "no memory for the preprocessing tables", hint="free some, or use a smaller batch"
            )
        self.pointer = pointer
        weakref.finalize(self, getattr(library(), free), pointer).atexit = False


class HostPreprocessor:
    """Images to tensors by the compiled kernels; see `tledge.preprocess.preprocessor`."""

    def __init__(self, spec: Spec, threads: int = 1) -> None:
        if threads < 1:
            raise InputError(f"threads is {threads}", hint="it must be 1 or more")
        self.spec = spec
        self.threads = threads
        self.instruction_set = instruction_set()
        self._set = instruction_sets()[self.instruction_set]
        self._library = library()
        table = np.ascontiguousarray(normalisation(spec))
        straight = np.ascontiguousarray(lines(spec))
        self._table = _Handle(
            self._library.tledge_table_new(table.ctypes.data, table.itemsize, straight.ctypes.data),
            "tledge_table_free",
        )
        self._order = (ctypes.c_int32 * 3)(*CHANNELS[spec.decode.colour])
        self._plans: dict[tuple[int, ...], _Handle] = {}

    def __call__(self, image: Pixels | Frame, out: Tensor | None = None) -> Tensor:
        """Return the tensor of one uint8 height x width x 3 image, or of a camera's frame."""
        checked = image if isinstance(image, Frame) else check_image(image)
        result = check_out(out, self.spec.shape, self.spec.dtype)
        self._run(checked, self._table.pointer, result)
        return result

    def jpeg(self, data: bytes, out: Tensor | None = None, stamps: list[int] | None = None) -> Tensor | None:
        """Return the tensor of a JPEG file's bytes, decoding only the rows and columns under the crop.

        None where the kernels do not take the file on (another format, CMYK, turned by EXIF, damaged, larger
        than 100 megapixels) or were built without libjpeg-turbo: `tledge.data.decode.image` then gives the
        same bits or a message that says what is wrong. To `stamps` goes the time (time.perf_counter_ns) at
        which decoding ended.
        """
        width, height = ctypes.c_int32(), ctypes.c_int32()
        size = ctypes.byref(width), ctypes.byref(height)
        if self._library.tledge_jpeg_size(data, len(data), self.spec.decode.exif, *size) != 0:
            return None
        if width.value * height.value > LARGEST_JPEG:
            return None
        scale = jpeg_scale(self.spec, width.value, height.value)
        plan = self._plan(-(-width.value // scale), -(-height.value // scale))
        result = check_out(out, self.spec.shape, self.spec.dtype)
        decoded = None if stamps is None else ctypes.c_int64()
        code = self._library.tledge_run_jpeg(
            plan.pointer,
            self._table.pointer,
            data,
            len(data),
            scale,
            result.ctypes.data,
            self.threads,
            decoded,
        )
        if code == UNSUPPORTED:
            return None
        _answer(code)
        if stamps is not None and decoded is not None:
            stamps.append(decoded.value)
        return result

    def batch(self, images: Iterable[Pixels | Frame], out: Tensor | None = None) -> Tensor:
        """Return the tensors of several images or frames, of any sizes, shared among the threads: N x ..."""
        checked = [image if isinstance(image, Frame) else check_image(image) for image in images]
        count = len(checked)
        result = check_out(out, (count, *self.spec.shape), self.spec.dtype)
        plans = [self._plan_for(image) for image in checked]
        pointers = ctypes.c_void_p * count
        pixels, strides = pointers(), (ctypes.c_int64 * count)()
        frames = (ctypes.POINTER(CFrame) * count)()
        for i, image in enumerate(checked):
            if isinstance(image, Frame):
                frames[i] = ctypes.pointer(_described(image))
            else:
                pixels[i], strides[i] = image.ctypes.data, _row_stride(image)
        _answer(
            self._library.tledge_run_batch(
                count,
                pointers(*(plan.pointer for plan in plans)),
                self._table.pointer,
                pixels,
                strides,
                frames,
                result.ctypes.data,
                self.threads,
            )
        )
        return result

    def pixels(self, image: Pixels | Frame) -> Pixels:
        """Return the resampled image before normalisation: uint8 height x width x 3, red first."""
        result = np.empty((*self.spec.size, 3), np.uint8)
        self._run(image if isinstance(image, Frame) else check_image(image), None, result)
        return result

    def normalise(self, pixels: Pixels) -> Tensor:
        """Return the tensor of uint8 (N x) height x width x 3 pixels of any size."""
        checked = check_pixels(pixels)
        *batch, height, width, _ = checked.shape
        planes = self.spec.layout == "NCHW"
        shape = (3, height, width) if planes else (height, width, 3)
        result: Tensor = np.empty((*batch, *shape), self.spec.dtype)
        # Pixels that lie next to their channels are normalised alike in one image or in many.
        images = batch[0] if batch and planes else 1
        if checked.size == 0:
            return result
        each = checked.size // 3 // images
        for i in range(images):
            _answer(
                self._library.tledge_normalise(
                    self._set,
                    self._table.pointer,
                    checked.ctypes.data + 3 * each * i,
                    each,
                    not planes,
                    self._order,
                    result.ctypes.data + 3 * each * i * result.itemsize,
                )
            )
        return result

    def coefficients(self, image: Pixels | Frame) -> tuple[npt.NDArray[np.int32], ...]:
        """Return what resamples an image, horizontally and vertically.

        Each is first[n], count[n] and weights[n x taps] in one, for the n columns or rows of the window:
        output i is the sum of count[i] samples from first[i] on times weights[i] of 22 fractional bits. Of a
        frame whose planes are resized two more follow, of its chroma.

        Raises:
            InputError: such an image cannot be resized.
        """
        plan = self._plan_for(image)

        def axis(number: int) -> npt.NDArray[np.int32]:
            size = self._library.tledge_plan_axis(plan.pointer, number, None)
            values = np.empty(size, np.int32)
            self._library.tledge_plan_axis(plan.pointer, number, values.ctypes.data)
            return values

        return tuple(axis(number) for number in range(4 if resizes_planes(self.spec, image) else 2))

    def _run(self, image: Pixels | Frame, table: int | None, out: Tensor) -> None:
        plan = self._plan_for(image)
        if isinstance(image, Frame):
            described = _described(image)
            _answer(
                self._library.tledge_run_frame(
                    plan.pointer, table, ctypes.byref(described), out.ctypes.data, self.threads
                )
            )
            return
        _answer(
            self._library.tledge_run(
                plan.pointer, table, image.ctypes.data, _row_stride(image), out.ctypes.data, self.threads
            )
        )

    def _plan_for(self, image: Pixels | Frame) -> _Handle:
        if not isinstance(image, Frame):
            return self._plan(image.shape[1], image.shape[0])
        if not resizes_planes(self.spec, image):
            return self._plan(image.width, image.height)
        return self._plan(image.width, image.height, image.chroma)

    def _plan(self, width: int, height: int, chroma: tuple[int, int, int] = (0, 0, 0)) -> _Handle:
        key = (width, height, *chroma)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._new_plan(width, height, chroma)
            # Two threads may both make one; either will do. The oldest goes when there are too many.
            if len(self._plans) >= PLANS_KEPT:
                self._plans.pop(next(iter(list(self._plans))), None)
            self._plans[key] = plan
        return plan

    def _new_plan(self, width: int, height: int, chroma: tuple[int, int, int]) -> _Handle:
        geometry = self.spec.geometry
        place = window(geometry, width, height)
        wanted = CGeometry(
            source_width=width,
            source_height=height,
            resized_width=place.resized_width,
            resized_height=place.resized_height,
            left=place.left,
            top=place.top,
            width=place.width,
            height=place.height,
            output_width=self.spec.size[1],
            output_height=self.spec.size[0],
            pad_left=place.pad_left,
            pad_top=place.pad_top,
            filter=FILTERS.index(self.spec.filter),
            channels_last=self.spec.layout == "NHWC",
            order=self._order,
            fill=geometry.fill if isinstance(geometry, Letterbox) else (0, 0, 0),
            chroma=chroma[0],
            between_columns=chroma[1],
            between_rows=chroma[2],
        )
        return _Handle(self._library.tledge_plan_new(ctypes.byref(wanted), self._set), "tledge_plan_free")


def _described(frame: Frame) -> CFrame:
    """Return the frame as the kernels read it: pointers into its planes, which it keeps alive."""
    _, between_columns, between_rows = frame.chroma
    widths = [columns for _, columns in plane_shapes(frame.format, frame.width, frame.height)]
    # The stride of a single row is never used, and NumPy may have put anything there.
    strides = [
        max(plane.strides[0], width) if plane.shape[0] == 1 else plane.strides[0]
        for plane, width in zip(frame.planes, widths, strict=True)
    ]
    return CFrame(
        format=FORMATS.index(frame.format),
        width=frame.width,
        height=frame.height,
        between_columns=between_columns,
        between_rows=between_rows,
        matrix=frame.coefficients,
        planes=tuple(plane.ctypes.data for plane in frame.planes),
        strides=tuple(strides),
    )


def _row_stride(image: Pixels) -> int:
    """Return the bytes from one row to the next; NumPy leaves it undefined for a single row."""
    return max(image.strides[0], 3 * image.shape[1]) if image.shape[0] == 1 else image.strides[0]


def _answer(code: int) -> None:
    if code == 0:
        return
    if code == NO_MEMORY:
        raise MachineError("no memory for preprocessing", hint="free some, or use a smaller batch")
    raise RuntimeError(f"the preprocessing kernels answered {code}")
