"""What only a GPU can show, in one call: bits, bandwidth, the CUDA layer, graphs, end to end, leaks.

    python benchmarks/gpu.py [--frames 100000] [--finetune DATA] [-o TABLE.md]

Needs an NVIDIA GPU, pycuda, and nvcc or NVRTC. The network is torch's, where torch sees the GPU; else a copy
takes its place, and the row says so. Each section stands by itself: one that fails says why, the others go
on, and the script ends with 1. Prints a markdown table. --tiny is for a GPU that is only emulated: it takes
seconds, and its times mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from gpu_parts import MEANINGS, SPECS, Preparation, copy_inside, frame, network

from tledge.bench.percentiles import percentile
from tledge.cuda import Gpu, Stream, capture
from tledge.cuda.compiler import find_compiler
from tledge.cuda.topk import TopK
from tledge.preprocess import preprocessor
from tledge.preprocess.frames import FORMATS
from tledge.preprocess.spec import Order
from tledge.runtime.lane import BEST, Lane
from tledge.runtime.postprocess import Ranking, ranked, top

ORDERS = get_args(Order)


@dataclass(frozen=True)
class Row:
    """A line of the table: what was done, what came out, what was asked of it."""

    what: str
    figure: str
    asked: str = ""


@dataclass(frozen=True)
class Run:
    """What the sections share."""

    gpu: Gpu
    tiny: bool
    frames: int
    data: Path | None

    def pick(self, usual: int, tiny: int) -> int:
        """Return the number to take."""
        return tiny if self.tiny else usual


def milliseconds(gpu: Gpu, stream: Stream, work: Callable[[], None], repeats: int) -> float:
    """Return the GPU's time for one `work`, between events around many, after two that warm up."""
    start, end = gpu.event(), gpu.event()
    for _ in range(2):
        work()
    stream.synchronise()
    start.record(stream)
    for _ in range(repeats):
        work()
    end.record(stream)
    stream.synchronise()
    return max(end.milliseconds_since(start) / repeats, 1e-6)


def microseconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of the host for one `work`."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return float(np.median(times)) * 1e6


def tensors_bits(run: Run) -> Iterator[Row]:
    """Compare the kernel with the host: every format at each size, specifications and orders in turns."""
    random, gpu = np.random.default_rng(0), run.gpu
    sizes = run.pick(30, 2)
    equal = compared = 0
    stream = gpu.stream()
    for number in range(sizes):
        width, height = (int(2 ** random.uniform(0, run.pick(12, 6))) for _ in range(2))
        spec = SPECS[number % len(SPECS)].with_frames(ORDERS[(number + number // len(SPECS)) % 2])
        batch = [
            frame(format, width, height, MEANINGS[(number + at) % 3], at)
            for at, format in enumerate(("rgb", *FORMATS))
        ]
        made = Preparation(gpu, spec, [batch])
        out = gpu.pinned((len(batch), *spec.shape), spec.dtype)
        made.copy(stream)
        made.prepare(stream)
        stream.download(out, made.out)
        stream.synchronise()
        made.free()
        for ours, theirs in zip(out, preprocessor(spec).batch(batch), strict=True):
            equal += ours.tobytes() == theirs.tobytes()
            compared += 1
    what = f"preprocessing, {sizes} sizes x {len(FORMATS) + 1} formats: tensors with the host's bytes"
    yield Row(what, f"{equal} of {compared}", "all")


def topk_bits(run: Run) -> Iterator[Row]:
    """Compare top-k with the host: types, numbers of classes, ties."""
    random, gpu = np.random.default_rng(1), run.gpu
    equal = compared = 0
    stream = gpu.stream()
    for dtype in ("float32", "float16"):
        for classes in (1, 2, 5, 255, 256, 257, 1000, run.pick(21841, 2000)):
            for scale in (0.0, 1.0, 20.0):
                images, k = 8, min(BEST, classes)
                logits = gpu.mapped((images, classes), dtype)
                logits.array[:] = (random.normal(0, scale, (images, classes))).round(1)
                indices, probabilities = (
                    gpu.mapped((images, k), np.int32),
                    gpu.mapped((images, k), np.float32),
                )
                TopK(gpu, dtype, classes, k).give(stream, logits, images, indices, probabilities)
                stream.synchronise()
                pairs = zip(ranked(indices.array, probabilities.array), top(logits.array, k), strict=True)
                equal += sum(ours == theirs for ours, theirs in pairs)
                compared += images
    yield Row(
        "top-k, two types, 1 to 21841 classes: answers with the host's bits", f"{equal} of {compared}", "all"
    )


def copies(run: Run) -> Iterator[Row]:
    """Measure what the memory can do."""
    gpu, repeats = run.gpu, run.pick(20, 2)
    size = run.pick(256, 1) << 20
    host, stream = gpu.pinned((size,), np.uint8), gpu.stream()
    host[:] = 1
    buffer = gpu.allocate(size)
    for what, work in (
        ("page-locked memory to the GPU", lambda: stream.upload(buffer, host)),
        ("GPU to page-locked memory", lambda: stream.download(host, buffer)),
    ):
        yield Row(f"copy, {what}", f"{size / milliseconds(gpu, stream, work, repeats) / 1e6:.1f} GB/s")
    buffer.free()
    yield Row("copy within the GPU, read and written", f"{copy_rate(run):.0f} GB/s")


def copy_rate(run: Run) -> float:
    """Return the GPU's copy rate in GB/s, bytes read and bytes written."""
    size = run.pick(1024, 1) << 20
    stream, there, here = run.gpu.stream(), run.gpu.allocate(size), run.gpu.allocate(size)
    taken = milliseconds(
        run.gpu,
        stream,
        lambda: copy_inside(stream.handle, there.address, here.address, size),
        run.pick(20, 2),
    )
    there.free()
    here.free()
    return 2 * size / taken / 1e6


def bandwidth(run: Run) -> Iterator[Row]:
    """Measure the preprocessing kernel: bytes that the window holds and bytes written, over its time."""
    gpu, rate = run.gpu, copy_rate(run)
    stream, images = gpu.stream(), run.pick(16, 2)
    for name, sides in (("1080p", (1920, 1080)), ("4K", (3840, 2160))):
        width, height = (side // run.pick(1, 40) for side in sides)
        for format in ("rgb", "nv12", "bgrx"):
            batch = [frame(format, width, height, MEANINGS[0], seed) for seed in range(images)]
            made = Preparation(gpu, SPECS[0], [batch])
            up = milliseconds(gpu, stream, partial(made.copy, stream), run.pick(20, 1))
            taken = milliseconds(gpu, stream, partial(made.prepare, stream), run.pick(100, 1))
            made.free()
            reached = (made.used + made.out_bytes) / taken / 1e6
            yield Row(
                f"preprocessing kernel, {images} {name} {format} to 224 x 224 float32",
                f"{taken:.3f} ms, {reached:.0f} GB/s, {100 * reached / rate:.0f} % of the copy rate; "
                f"upload {made.used / up / 1e6:.1f} GB/s",
                "70 %",
            )


def layer(run: Run) -> Iterator[Row]:
    """Measure what each call of the CUDA layer costs the host."""
    gpu, repeats = run.gpu, run.pick(2000, 5)
    stream, event, buffer = gpu.stream(), gpu.event(), gpu.allocate(1 << 20)
    small = gpu.pinned((4096,), np.uint8)
    small[:] = 0
    logits, indices = gpu.mapped((1, 1000), np.float32), gpu.mapped((1, BEST), np.int32)
    logits.array[:] = 0
    probabilities = gpu.mapped((1, BEST), np.float32)
    search = TopK(gpu, "float32", 1000, BEST)

    def launched() -> None:
        search.give(stream, logits, 1, indices, probabilities)

    for what, work in (
        ("allocate and free 1 MiB", lambda: gpu.allocate(1 << 20).free()),
        ("give an upload of 4 KiB", lambda: stream.upload(buffer, small)),
        ("give a kernel", launched),
        ("record an event", lambda: event.record(stream)),
        ("wait for an idle stream", stream.synchronise),
    ):
        cost = microseconds(work, repeats)
        stream.synchronise()
        yield Row(f"CUDA layer: {what}", f"{cost:.1f} us")
    taken = milliseconds(gpu, stream, launched, repeats)
    yield Row("top-k kernel, 1000 classes, one image", f"{taken * 1e3:.1f} us")
    buffer.free()


def graphs(run: Run) -> Iterator[Row]:
    """Compare a frame's work given call by call with the same as one graph."""
    gpu, kernels, repeats = run.gpu, 50, run.pick(2000, 5)
    stream, buffer = gpu.stream(), gpu.allocate(4096)
    sent, back = gpu.pinned((4096,), np.uint8), gpu.pinned((4096,), np.uint8)
    sent[:] = 0
    logits, indices = gpu.mapped((1, 10), np.float32), gpu.mapped((1, BEST), np.int32)
    logits.array[:] = 0
    probabilities = gpu.mapped((1, BEST), np.float32)
    search = TopK(gpu, "float32", 10, BEST)

    def give() -> None:
        stream.upload(buffer, sent)
        for _ in range(kernels):
            search.give(stream, logits, 1, indices, probabilities)
        stream.download(back, buffer)

    give()
    stream.synchronise()
    with capture(stream) as graph:
        give()
    for what, work in (("call by call", give), ("as one graph", lambda: graph.launch(stream))):

        def whole(work: Callable[[], object] = work) -> None:
            work()
            stream.synchronise()

        host = microseconds(work, run.pick(100, 2))
        stream.synchronise()
        yield Row(
            f"upload, {kernels} kernels, download, {what}",
            f"host {host:.0f} us, until done {microseconds(whole, repeats):.0f} us",
        )
    graph.free()
    buffer.free()


def end_to_end(run: Run) -> Iterator[Row]:
    """Measure what a user waits for: from pixels in the host's memory to the five best classes."""
    for name, format, sides in (
        ("1080p", "nv12", (1920, 1080)),
        ("1080p", "rgb", (1920, 1080)),
        ("500 x 375", "rgb", (500, 375)),
    ):
        width, height = (side // run.pick(1, 10) for side in sides)
        images = [frame(format, width, height, MEANINGS[0], seed) for seed in range(4)]
        engine = network()
        lane = Lane(run.gpu, engine, SPECS[0])
        times, count = [], run.pick(5000, 8)
        for number in range(count + count // 10):
            begun = time.perf_counter()
            answer(lane, images[number % 4])
            times.append(1e3 * (time.perf_counter() - begun))
        lane.free()
        kept = np.array(times[count // 10 :])
        p50, p99 = (percentile(kept, fraction) for fraction in (0.5, 0.99))
        yield Row(
            f"{name} {format} pixels to labels, {engine.name}, {count} frames",
            f"p50 {p50:.3f} ms, p99 {p99:.3f} ms, ratio {p99 / p50:.3f}",
            "p99 at most 1.05 of p50",
        )


def answer(lane: Lane, image: Any) -> Ranking:
    """Return the best classes of one image, as `predict` has them found."""
    if not lane.run_pixels([image]):
        raise RuntimeError("the image does not fit into a lane")
    return lane.top(1, BEST)[0]


def leaks(run: Run) -> Iterator[Row]:
    """Answer frames of several sizes and formats, and see what is gone."""
    sides = (64, 48) if run.tiny else (640, 480)
    images = [
        frame(format, sides[0] - 7 * step, sides[1] - 5 * step, MEANINGS[0], step)
        for step, format in enumerate(("rgb", "nv12", "bgrx", "yuyv"))
    ]
    lane = Lane(run.gpu, network(), SPECS[0])
    right = [answer(lane, image) for image in images]
    for number in range(run.frames // 10):
        answer(lane, images[number % 4])
    before, wrong = (run.gpu.memory()[0], resident()), 0
    for number in range(run.frames):
        wrong += answer(lane, images[number % 4]) != right[number % 4]
    after = run.gpu.memory()[0], resident()
    lane.free()
    gone = before[0] - after[0], after[1] - before[1]
    yield Row(
        f"{run.frames} frames of four sizes and formats through one graph",
        f"GPU memory {gone[0]:+d} bytes, resident memory {gone[1] / 1024:+.0f} KiB, {wrong} answers changed",
        "no growth",
    )


def resident() -> int:
    """Return the process's resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def finetuning(run: Run) -> Iterator[Row]:
    """Fine-tune at full size."""
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "b.tledge")
        words = [sys.executable, "-m", "tledge", "finetune", str(run.data), "-o", out, "--json"]
        result = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    document = json.loads(result.stdout)
    row = document["ledger"][0]
    yield Row(f"finetune {run.data}", f"top-1 {row['top1']:.2f} % of {row['n']}, {document['seconds']:.0f} s")


SECTIONS: tuple[Callable[[Run], Iterator[Row]], ...] = (
    tensors_bits,
    topk_bits,
    copies,
    bandwidth,
    layer,
    graphs,
    end_to_end,
    leaks,
)


def table(run: Run) -> tuple[str, bool]:
    """Return the markdown table, and whether every section ran."""
    lines, whole = ["| what | figure | asked |", "| --- | --- | --- |"], True
    for section in (*SECTIONS, *([finetuning] if run.data else [])):
        try:
            with run.gpu.current():
                rows = list(section(run))
        except Exception as error:  # whatever torch, pycuda or the driver raise: the other sections go on
            rows, whole = [Row(section.__name__, f"failed: {type(error).__name__}: {error}")], False
        for row in rows:
            lines.append(f"| {row.what} | {row.figure} | {row.asked} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines), whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000, help="of the search for leaks")
    parser.add_argument("--finetune", type=Path, metavar="DATA", help="also fine-tune on this folder")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("-o", "--output", type=Path)
    wanted = parser.parse_args()
    with Gpu() as gpu:
        compiler = find_compiler("auto", gpu.cuda)
        head = (
            f"{gpu.name} ({gpu.architecture}), {gpu.memory()[1] / 2**30:.0f} GiB, driver of CUDA {gpu.cuda}, "
            f"{compiler.kind} {compiler.release}, {datetime.datetime.now(datetime.timezone.utc):%d %B %Y}"
        )
        lines, whole = table(Run(gpu, wanted.tiny, wanted.frames, wanted.finetune))
    text = f"{head}\n\n{lines}\n"
    print(text, end="")
    if wanted.output:
        wanted.output.write_text(text, encoding="utf-8")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
