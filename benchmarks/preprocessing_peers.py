"""The ways from an image to a 224 x 224 float32 tensor that `preprocessing.py` times against each other.

Each function imports its own library, and returns what makes a tensor of pixels, JPEG bytes or an NV12 frame.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RESIZE, CROP = 256, 224

Pixels = Callable[[np.ndarray], Any]


def tledge_pixels() -> Pixels:
    from tledge.preprocess import Crop, Spec, preprocessor

    made = preprocessor(Spec(geometry=Crop(RESIZE, (CROP, CROP)), mean=MEAN, std=STD))
    out = np.empty((3, CROP, CROP), np.float32)
    return lambda image: made(image, out)


def _tledge_jpeg(how: Any) -> Callable[[bytes], Any]:
    from tledge.preprocess import Crop, Spec, preprocessor

    spec = Spec(geometry=Crop(RESIZE, (CROP, CROP)), mean=MEAN, std=STD).with_jpeg(how)
    made = preprocessor(spec)
    out = np.empty((3, CROP, CROP), np.float32)
    return lambda data: made.jpeg(data, out)


def tledge_jpeg() -> Callable[[bytes], Any]:
    return _tledge_jpeg("exact")


def tledge_jpeg_fast() -> Callable[[bytes], Any]:
    return _tledge_jpeg("fast")


def tledge_jpeg_floor() -> Callable[[bytes], Any]:
    """One column of the crop: entropy decoding down to the crop's last row, and next to nothing else."""
    from PIL import Image

    from tledge.preprocess import Crop, Spec, preprocessor

    made: dict[int, Callable[[bytes], Any]] = {}

    def run(data: bytes) -> Any:
        if len(data) not in made:
            wide, tall = _shorter_side(*Image.open(io.BytesIO(data)).size)
            made[len(data)] = preprocessor(Spec(geometry=Crop((tall, wide), (CROP, 1)))).jpeg
        return made[len(data)](data)

    return run


def torchvision_v1() -> Pixels:
    from PIL import Image
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.Resize(RESIZE),
            transforms.CenterCrop(CROP),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return lambda image: transform(Image.fromarray(image))


def _torchvision_v2() -> Any:
    import torch
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    return v2.Compose(
        [
            v2.Resize(RESIZE, antialias=True),
            v2.CenterCrop(CROP),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )


def torchvision_v2() -> Pixels:
    import torch

    transform = _torchvision_v2()
    # A permuted view of interleaved pixels is channels_last, which its resize is fastest on.
    return lambda image: transform(torch.from_numpy(image).permute(2, 0, 1)).contiguous()


def torchvision_jpeg() -> Callable[[bytes], Any]:
    import torch
    from torchvision.io import decode_jpeg

    transform = _torchvision_v2()
    return lambda data: transform(decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8)))


def pillow_jpeg() -> Callable[[bytes], Any]:
    from PIL import Image
    from torchvision import transforms

    steps = transforms.Compose(
        [
            transforms.Resize(RESIZE),
            transforms.CenterCrop(CROP),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return lambda data: steps(Image.open(io.BytesIO(data)).convert("RGB"))


def _shorter_side(width: int, height: int) -> tuple[int, int]:
    short = min(width, height)
    return int(RESIZE * width / short), int(RESIZE * height / short)


def _source_box(width: int, height: int) -> tuple[float, float, float, float]:
    """Return the part of the image that the crop shows: left, top, right, bottom."""
    wide, tall = _shorter_side(width, height)
    x, y = width / wide, height / tall
    left, top = (wide - CROP) // 2 * x, (tall - CROP) // 2 * y
    return left, top, left + CROP * x, top + CROP * y


def _blob(image: np.ndarray) -> Any:
    import cv2

    scale = tuple(1 / (255 * std) for std in STD)
    parameters = cv2.dnn.Image2BlobParams()
    parameters.scalefactor = (*scale, 1.0)
    parameters.mean = tuple(255 * mean for mean in MEAN)
    return cv2.dnn.blobFromImageWithParams(image, parameters)


def opencv() -> Pixels:
    import cv2

    cv2.setNumThreads(1)

    def run(image: np.ndarray) -> Any:
        width, height = _shorter_side(image.shape[1], image.shape[0])
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        left, top = (width - CROP) // 2, (height - CROP) // 2
        return _blob(small[top : top + CROP, left : left + CROP])

    return run


def opencv_jpeg() -> Callable[[bytes], Any]:
    import cv2

    pixels = opencv()

    def run(data: bytes) -> Any:
        return pixels(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))

    return run


def assembly() -> Pixels:
    """The fastest that can be put together: pillow-simd's resize of the crop's box, and OpenCV's blob."""
    import cv2
    from PIL import Image

    cv2.setNumThreads(1)

    def run(image: np.ndarray) -> Any:
        height, width, _ = image.shape
        box = _source_box(width, height)
        small = Image.fromarray(image).resize((CROP, CROP), Image.Resampling.BILINEAR, box=box)
        return _blob(np.asarray(small))

    return run


def pillow_simd() -> Pixels:
    """Pillow-SIMD's resize of the crop's box, and NumPy for the rest."""
    from PIL import Image

    scale = np.array([1 / (255 * std) for std in STD], np.float32)
    offset = np.array([mean / std for mean, std in zip(MEAN, STD, strict=True)], np.float32)

    def run(image: np.ndarray) -> Any:
        height, width, _ = image.shape
        box = _source_box(width, height)
        small = Image.fromarray(image).resize((CROP, CROP), Image.Resampling.BILINEAR, box=box)
        return np.ascontiguousarray((np.asarray(small) * scale - offset).transpose(2, 0, 1))

    return run


def albumentations() -> Pixels:
    import albumentations as library
    import cv2

    cv2.setNumThreads(1)
    steps = library.Compose(
        [
            library.SmallestMaxSize(RESIZE, interpolation=cv2.INTER_AREA),
            library.CenterCrop(CROP, CROP),
            library.Normalize(MEAN, STD),
        ]
    )
    return lambda image: np.ascontiguousarray(steps(image=image)["image"].transpose(2, 0, 1))


def albumentations_jpeg() -> Callable[[bytes], Any]:
    import cv2

    pixels = albumentations()

    def run(data: bytes) -> Any:
        return pixels(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))

    return run


def kornia() -> Pixels:
    """kornia-rs: its fused resize and normalise, of the part of the image that the crop shows."""
    from kornia_rs.image import Image

    def run(image: np.ndarray) -> Any:
        height, width, _ = image.shape
        left, top, right, bottom = (round(edge) for edge in _source_box(width, height))
        part = Image.from_numpy(image).crop(left, top, right - left, bottom - top)
        return part.resize_normalize_to_tensor(CROP, CROP, list(MEAN), list(STD)).numpy()

    return run


def kornia_jpeg() -> Callable[[bytes], Any]:
    from kornia_rs.io import decode_image_jpegturbo

    pixels = kornia()
    return lambda data: pixels(decode_image_jpegturbo(data, "rgb"))


def _dali(jpeg: bool) -> Callable[[Any], Any]:
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(
        batch_size=1,
        num_threads=1,
        device_id=None,
        exec_pipelined=False,
        exec_async=False,
        prefetch_queue_depth=1,
    )
    def steps() -> Any:
        source = fn.external_source(name="source", no_copy=True)
        image = fn.decoders.image(source, output_type=types.RGB) if jpeg else source
        small = fn.resize(image, resize_shorter=RESIZE, interp_type=types.INTERP_LINEAR, antialias=True)
        return fn.crop_mirror_normalize(
            small,
            crop=(CROP, CROP),
            mean=[255 * mean for mean in MEAN],
            std=[255 * std for std in STD],
            dtype=types.FLOAT,
            output_layout="CHW",
        )

    pipeline = steps()
    pipeline.build()

    def run(source: Any) -> Any:
        array = np.frombuffer(source, np.uint8) if jpeg else source
        pipeline.feed_input("source", [array], layout="" if jpeg else "HWC")
        return np.asarray(pipeline.run()[0].as_array())

    return run


def dali() -> Pixels:
    return _dali(jpeg=False)


def dali_jpeg() -> Callable[[bytes], Any]:
    return _dali(jpeg=True)


def _vips(small: Any) -> Any:
    """Crop a pyvips image and normalise it."""
    left, top = (small.width - CROP) // 2, (small.height - CROP) // 2
    part = small.crop(left, top, CROP, CROP)
    scale = [1 / (255 * std) for std in STD]
    offset = [-mean / std for mean, std in zip(MEAN, STD, strict=True)]
    return np.ascontiguousarray(part.linear(scale, offset).numpy().transpose(2, 0, 1))


def vips() -> Pixels:
    import pyvips

    pyvips.cache_set_max(0)

    def run(image: np.ndarray) -> Any:
        height, width, _ = image.shape
        wide, tall = _shorter_side(width, height)
        whole = pyvips.Image.new_from_memory(image, width, height, 3, "uchar")
        return _vips(whole.thumbnail_image(wide, height=tall, size="force"))

    return run


def vips_jpeg() -> Callable[[bytes], Any]:
    import pyvips

    pyvips.cache_set_max(0)

    def run(data: bytes) -> Any:
        opened = pyvips.Image.new_from_buffer(data, "")
        wide, tall = _shorter_side(opened.width, opened.height)
        return _vips(pyvips.Image.thumbnail_buffer(data, wide, height=tall, size="force"))

    return run


def _tledge_nv12(order: Any) -> Pixels:
    from tledge.preprocess import Crop, Spec, preprocessor
    from tledge.preprocess.frames import Frame

    spec = Spec(geometry=Crop(RESIZE, (CROP, CROP)), mean=MEAN, std=STD).with_frames(order)
    made = preprocessor(spec)
    out = np.empty((3, CROP, CROP), np.float32)

    def run(planes: np.ndarray) -> Any:
        height = planes.shape[0] * 2 // 3
        both = planes[:height], planes[height:]
        return made(Frame("nv12", planes.shape[1], height, both, "bt601", "limited", "left"), out)

    return run


def tledge_nv12() -> Pixels:
    return _tledge_nv12("convert-first")


def tledge_nv12_planes() -> Pixels:
    return _tledge_nv12("planes-first")


def opencv_nv12() -> Pixels:
    import cv2

    pixels = opencv()
    return lambda planes: pixels(cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_NV12))


# name: (maker, what it takes, what it is)
PEERS: dict[str, tuple[Callable[[], Callable[[Any], Any]], str, str]] = {
    "tledge": (tledge_pixels, "pixels", "exact"),
    "tledge-avx2": (tledge_pixels, "pixels", "exact, AVX2 only"),
    "torchvision-v1": (torchvision_v1, "pixels", "Pillow: exact to the last rounding"),
    "torchvision-v2": (torchvision_v2, "pixels", "antialiased, other bits"),
    "assembly": (assembly, "pixels", "pillow-simd box and OpenCV blob: other bits"),
    "pillow-simd": (pillow_simd, "pixels", "box resize, NumPy: other bits"),
    "albumentations": (albumentations, "pixels", "area, other bits"),
    "dali": (dali, "pixels", "on the CPU, antialiased, other bits"),
    "vips": (vips, "pixels", "Lanczos, other bits"),
    "kornia": (kornia, "pixels", "not antialiased"),
    "opencv": (opencv, "pixels", "not antialiased"),
    "tledge-jpeg": (tledge_jpeg, "jpeg", "exact"),
    "pillow-jpeg": (pillow_jpeg, "jpeg", "exact to the last rounding"),
    "torchvision-jpeg": (torchvision_jpeg, "jpeg", "other bits"),
    "tledge-jpeg-floor": (tledge_jpeg_floor, "jpeg", "entropy decoding alone"),
    "tledge-jpeg-fast": (tledge_jpeg_fast, "jpeg", "decode: fast, other bits"),
    "albumentations-jpeg": (albumentations_jpeg, "jpeg", "area, other bits"),
    "dali-jpeg": (dali_jpeg, "jpeg", "on the CPU, antialiased, other bits"),
    "vips-jpeg": (vips_jpeg, "jpeg", "scaled decode, Lanczos: other bits"),
    "kornia-jpeg": (kornia_jpeg, "jpeg", "not antialiased"),
    "opencv-jpeg": (opencv_jpeg, "jpeg", "not antialiased"),
    "tledge-nv12-planes": (tledge_nv12_planes, "nv12", "planes-first"),
    "tledge-nv12": (tledge_nv12, "nv12", "convert-first: the bits of the picture"),
    "opencv-nv12": (opencv_nv12, "nv12", "nearest chroma, not antialiased"),
}
