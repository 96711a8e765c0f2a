"""`tledge predict`: label images, one by one, or the frames of a video or camera as they come."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tledge.bundle import Bundle
from tledge.cli.frames import frame_options, frames_of
from tledge.cli.options import FilePath, Output, subcommand
from tledge.errors import InputError

if TYPE_CHECKING:
    from tledge.runtime import Model, Prediction
    from tledge.runtime.sources import Source


@subcommand("predict")
@click.argument("bundle", type=FilePath)
@click.argument("images", nargs=-1)
@click.option(
    "--video", help="Label each frame of a video: a file, a URL (rtsp://...), or - for standard input."
)
@click.option("--camera", help="Label a camera's frames: /dev/video0 (or 0), or csi:0 on a Jetson.")
@frame_options
@click.option("--top-k", type=click.IntRange(1), default=5, help="How many of the best answers.")
@click.option(
    "--reject-below",
    type=float,
    help="The least probability of an answer, 0 to 1; default: the bundle's (see evaluate).",
)
@click.option("--variant", default="auto", help="fp32, fp16, int8 or int8-cpu.")
@click.option("--backend", default="auto", help="onnxruntime, openvino, tensorrt or tensorrt-rtx.")
def command(
    output: Output,
    bundle: Path,
    images: tuple[str, ...],
    video: str | None,
    camera: str | None,
    top_k: int,
    reject_below: float | None,
    variant: str,
    backend: str,
    **frames: Any,
) -> int | None:
    """Label each IMAGE: a file, a folder of images, or `-` for standard input; or a --video, or a --camera.

    Standard input holds paths, one a line; or the bytes of JPEG or PNG files, one after another; or, with
    --format and --size, raw frames. Every image is answered; the exit code is 4 at the end if any could not
    be read. With `-`, --video and --camera, --json prints one object a line as the answers come; frames end
    with one that counts them. A camera's frames are dropped while it is being waited for an answer, a file's
    never.
    """
    from tledge.runtime import load
    from tledge.runtime.choose import passed_over

    source = frames_of(images, video, camera, output.progress.note, **frames)
    if backend == "auto":
        for reason in passed_over(Bundle.open(bundle)):
            output.progress.note(reason)
    model = load(bundle, backend=backend, variant=variant, reject_below=reject_below)
    for note in model.notes:
        output.progress.note(note)
    if isinstance(source, Iterator):
        failed = _label(output, model, source, top_k, stream=True)
    elif source is not None:
        failed = _label_frames(output, model, source, top_k)
    else:
        failed = _label(output, model, _paths(images), top_k, stream=False)
    return InputError.exit_code if failed else None


def _label(output: Output, model: Model, paths: Iterable[str], top_k: int, *, stream: bool) -> int:
    """Answer each image; return how many could not be."""
    failed = 0
    answers = []
    for answer in model.predict_each(paths, top_k=top_k, **({"batch": 1} if stream else {})):
        failed += answer.error is not None
        if output.as_json and not stream:
            answers.append(answer.as_dict())
        else:
            _show(output, answer, answer.file, {})
    if output.as_json and not stream:
        document = {"predictions": answers, "variant": model.variant, "backend": model.backend}
        output.show(document, "")
    return failed


def _label_frames(output: Output, model: Model, source: Source, top_k: int) -> int:
    """Answer each frame, and say at the end, however it comes, how many there were."""
    with model.stream(source, top_k) as stream:
        try:
            for shot, answer in stream:
                seconds = None if shot.seconds is None else round(shot.seconds, 6)
                time = "" if seconds is None else f" ({seconds:.2f} s)"
                more = {"frame": shot.number, "seconds": seconds, "dropped": stream.counts.dropped}
                _show(output, answer, f"{shot.file} {shot.number}{time}", more)
        finally:
            if output.as_json:
                print(json.dumps({"counts": stream.counts.as_dict()}), flush=True)
            output.progress.note(f"{source.name}: {stream.counts}")
    return stream.counts.failed


def _show(output: Output, answer: Prediction, name: str, more: dict[str, Any]) -> None:
    if output.as_json:
        print(json.dumps({**answer.as_dict(), **more}, ensure_ascii=False), flush=True)
    elif answer.error is not None:
        print(f"tledge: {answer.error}", file=sys.stderr)
    else:
        label = "none" if answer.rejected else answer.label
        others = ", ".join(
            f"{guess.label} {guess.probability:.1%}" for guess in answer.top[not answer.rejected :]
        )
        print(f"{name}: {label} {answer.probability:.1%}" + (f"  ({others})" if others else ""), flush=True)


def _paths(words: tuple[str, ...]) -> Iterator[str]:
    from tledge.data import image_files

    for word in words:
        if Path(word).is_dir():
            found = image_files(Path(word))
            if not found:
                raise InputError(f"no images in {word}", path=word)
            yield from map(str, found)
        else:
            yield word
