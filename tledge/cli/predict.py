"""`tledge predict`: label images, one by one, whatever is wrong with some of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from tledge.bundle import Bundle
from tledge.cli.options import FilePath, Output, subcommand
from tledge.errors import InputError


@subcommand("predict")
@click.argument("bundle", type=FilePath)
@click.argument("images", nargs=-1, required=True)
@click.option("--top-k", type=click.IntRange(1), default=5, help="How many of the best answers.")
@click.option("--variant", default="auto", help="fp32, fp16, int8 or int8-cpu.")
@click.option("--backend", default="auto", help="onnxruntime, openvino, tensorrt or tensorrt-rtx.")
def command(
    output: Output, bundle: Path, images: tuple[str, ...], top_k: int, variant: str, backend: str
) -> int | None:
    """Label each IMAGE: a file, a folder of images, or `-` for paths on standard input, one a line.

    Every image is answered; the exit code is 4 at the end if any could not be read. With `-`, --json prints
    one object a line as the paths come in.
    """
    from tledge.runtime import load
    from tledge.runtime.choose import passed_over

    if backend == "auto":
        for reason in passed_over(Bundle.open(bundle)):
            output.progress.note(reason)
    model = load(bundle, backend=backend, variant=variant)
    stream = "-" in images
    failed = 0
    answers = []
    for answer in model.predict_each(_paths(images), top_k=top_k, **({"batch": 1} if stream else {})):
        failed += answer.error is not None
        if output.as_json and stream:
            print(json.dumps(answer.as_dict(), ensure_ascii=False), flush=True)
        elif output.as_json:
            answers.append(answer.as_dict())
        elif answer.error is not None:
            print(f"tledge: {answer.error}", file=sys.stderr)
        else:
            others = ", ".join(f"{guess.label} {guess.probability:.1%}" for guess in answer.top[1:])
            print(
                f"{answer.file}: {answer.label} {answer.probability:.1%}"
                + (f"  ({others})" if others else "")
            )
    if output.as_json and not stream:
        document = {"predictions": answers, "variant": model.variant, "backend": model.backend}
        output.show(document, "")
    return InputError.exit_code if failed else None


def _paths(words: tuple[str, ...]) -> Iterator[str]:
    from tledge.data import image_files

    for word in words:
        if word == "-":
            yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        elif Path(word).is_dir():
            found = image_files(Path(word))
            if not found:
                raise InputError(f"no images in {word}", path=word)
            yield from map(str, found)
        else:
            yield word
