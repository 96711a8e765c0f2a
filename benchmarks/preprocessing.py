"""Time tledge's preprocessing against its peers: pixels, JPEG or NV12 frames to a 224 x 224 float32 tensor.

Each peer runs in a process of its own, on one thread, in the environment that has it. All take turns in short
rounds, so that a busy moment of the machine meets each of them; the medians of the rounds are printed, with
the smallest, which a busy machine disturbs least. A peer that is not installed is left out, and said so.

    python benchmarks/preprocessing.py --python opencv=CV/bin/python --python assembly=SIMD/bin/python

The image is scikit-learn's photograph of a temple, rescaled; the specification is Resize(256),
CenterCrop(224), ImageNet's mean and std. Only the peers marked exact give Pillow's bits. `--clock processor`
counts the processor time of all threads instead, for a machine whose processors other work shares.

PyPI has all peers: opencv-python-headless, pillow-simd (with opencv for `assembly`), albumentations,
kornia-rs, nvidia-dali-cuda120, pyvips[binary].
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIZES = ((500, 375), (640, 480), (1280, 720), (1920, 1080), (3840, 2160))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RESIZE, CROP = 256, 224
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "VIPS_CONCURRENCY",
)

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}

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


def serve(peer: str, clock: str) -> None:
    """Answer each size on standard input with the median time of a few runs, in microseconds."""
    now = CLOCKS[clock]
    maker, takes, _ = PEERS[peer]
    run = maker()
    inputs: dict[str, Any] = {}
    print("ready", flush=True)
    for line in sys.stdin:
        path, repeat = json.loads(line)
        if path not in inputs:
            inputs[path] = Path(path).read_bytes() if takes == "jpeg" else np.load(path)
            run(inputs[path])
        times = []
        for _ in range(repeat):
            begun = now()
            run(inputs[path])
            times.append(now() - begun)
        print(1e6 * statistics.median(times), flush=True)


def start(peer: str, python: str, clock: str) -> subprocess.Popen[str] | None:
    """Start a peer; None where it does not import."""
    environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
    if peer == "tledge-avx2":
        environment["TLEDGE_INSTRUCTION_SET"] = "avx2"
    process = subprocess.Popen(
        [python, __file__, "--serve", peer, "--clock", clock],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    return process if process.stdout.readline().strip() == "ready" else None


def nv12(width: int, height: int, ycc: np.ndarray) -> np.ndarray:
    """Return the planes of an even-sized frame, one under the other; chroma is every second pixel's."""
    pairs = ycc[::2, : width // 2 * 2 : 2, 1:].reshape(-1, width)[: height // 2]
    return np.ascontiguousarray(np.concatenate([ycc[: height // 2 * 2, :, 0], pairs]))


def write_inputs(folder: Path) -> dict[tuple[int, int], dict[str, Path]]:
    """Write each size as pixels, as a JPEG of quality 90, 4:2:0, and as a frame (its odd row left out)."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    photograph = Image.fromarray(load_sample_image("china.jpg"))
    files = {}
    for width, height in SIZES:
        image = photograph.resize((width, height), Image.Resampling.BICUBIC)
        stem = str(folder / f"{width}x{height}")
        paths = {"pixels": Path(f"{stem}.npy"), "jpeg": Path(f"{stem}.jpg"), "nv12": Path(f"{stem}.nv12.npy")}
        np.save(paths["pixels"], np.asarray(image))
        image.save(paths["jpeg"], quality=90, subsampling=2)
        np.save(paths["nv12"], nv12(width, height, np.asarray(image.convert("YCbCr"))))
        files[width, height] = paths
    return files


def measure(
    peers: dict[str, subprocess.Popen[str]], folder: Path, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Return the median time of each round, in microseconds: peer, size, rounds."""
    files = write_inputs(folder)
    found: dict[str, dict[str, list[float]]] = {name: {} for name in peers}
    for _ in range(rounds):
        for (width, height), paths in files.items():
            for name, process in peers.items():
                path = paths[PEERS[name][1]]
                repeat = 20 if width * height < 1_000_000 else 5
                assert process.stdin is not None
                assert process.stdout is not None
                print(json.dumps([str(path), repeat]), file=process.stdin, flush=True)
                found[name].setdefault(f"{width}x{height}", []).append(float(process.stdout.readline()))
    return found


def table(found: dict[str, dict[str, list[float]]], takes: str) -> str:
    """Return a Markdown table: median of the rounds (smallest), milliseconds, and times the first's median.

    The first is tledge, in whichever form it was measured; else the peer that was named first.
    """
    alike = [name for name in found if PEERS[name][1] == takes]
    ours = next((name for name in alike if name.startswith("tledge")), alike[0])
    sizes = [f"{width}x{height}" for width, height in SIZES]
    lines = [f"| from {takes} | " + " | ".join(sizes) + " | |", "| --- |" + " --- |" * (len(sizes) + 1)]
    for name, times in found.items():
        if PEERS[name][1] != takes:
            continue
        cells = []
        for size in sizes:
            median = statistics.median(times[size])
            ratio = median / statistics.median(found[ours][size])
            cells.append(f"{median / 1000:.3f} ({min(times[size]) / 1000:.3f}) {ratio:.1f}x")
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {PEERS[name][2]} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--python", action="append", default=[], metavar="PEER=PATH", help="a peer's interpreter"
    )
    parser.add_argument("--peers", default=",".join(PEERS), help="which (default: all)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--serve", choices=PEERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.clock)
        return
    import tempfile

    pythons = dict(pair.split("=", 1) for pair in arguments.python)
    started = {
        name: start(name, pythons.get(name, sys.executable), arguments.clock)
        for name in arguments.peers.split(",")
    }
    missing = [name for name, process in started.items() if process is None]
    peers = {name: process for name, process in started.items() if process is not None}
    if missing:
        print(f"not installed: {', '.join(missing)}\n")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(peers, Path(folder), arguments.rounds)
    for process in peers.values():
        process.terminate()
        process.wait()
    print(f"milliseconds ({arguments.clock} time) on one thread")
    print("median of the rounds (smallest), times the median of tledge (else of the first)\n")
    for takes in ("pixels", "jpeg", "nv12"):
        if any(PEERS[name][1] == takes for name in peers):
            print(table(found, takes), end="\n\n")


if __name__ == "__main__":
    main()
