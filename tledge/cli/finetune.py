"""`tledge finetune`: from a folder of images to a scored bundle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from tledge.cli.options import FilePath, Output, stage_answer, subcommand


@subcommand("finetune")
@click.argument("data", type=FilePath)
@click.option("-o", "--out", type=FilePath, required=True, help="Where the bundle goes, NAME.tledge.")
@click.option(
    "--backbone", help="efficientnet-lite0 (the default), -lite1, -lite2, torchvision:NAME, timm:NAME."
)
@click.option("--weights", help="pretrained (the default), none, or FILE.safetensors.")
@click.option("--from", "from_bundle", type=FilePath, help="Start from this bundle's network.")
@click.option("--qat", is_flag=True, default=None, help="Train --from's network to bear INT8.")
@click.option("--method", type=click.Choice(["finetune", "probe"]), help="probe: only a new head; a minute.")
@click.option("--freeze", type=click.Choice(["none", "backbone"]), help="backbone: train the head alone.")
@click.option("--head", help="linear (the default), or mlp:1024, mlp:4096,4096.")
@click.option("--pool", type=click.Choice(["avg", "flatten"]), help="How feature maps become features.")
@click.option("--epochs", type=int, help="At most this many; it stops early where tune gains no more.")
@click.option("--time", help="At most this long, 90s, 10m or 1.5h: as many epochs as fit.")
@click.option("--batch-size", type=int, help="Images a step.")
@click.option("--optimizer", type=click.Choice(["adamw", "sgd"]), help="sgd has Nesterov's momentum of 0.9.")
@click.option("--lr", type=float, help="Learning rate of the head.")
@click.option(
    "--logit-adjust", type=float, help="How far rare classes count as common ones: 0 to 1; default: by sizes."
)
@click.option("--magnitude", type=float, help="How strongly views are varied beyond crops, 0 to 1.")
@click.option("--image-size", type=int, help="Side of the input, pixels; default: the backbone's own.")
@click.option(
    "--decode",
    type=click.Choice(["exact", "fast"]),
    help="fast: JPEGs far larger than the input are decoded at a part of their size; other bits.",
)
@click.option(
    "--frames",
    type=click.Choice(["convert-first", "planes-first"]),
    help="planes-first: a camera's planes are resized before conversion; faster, other bits.",
)
@click.option("--seed", type=int, help="The same seed gives the same bits on a CPU.")
@click.option("--workers", type=int, help="Threads that read and decode; they do not change the result.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where to train.")
@click.option("--tensorboard", help="A folder for event files of the epochs: loss, rate, tune.")
@click.option("--cache/--no-cache", default=None, help="Keep features for later runs; the default.")
@click.option("--skip-bad", is_flag=True, default=None, help="Leave out bad images, however many.")
@click.option("--train-images", type=int, help="At most this many of train, each class in proportion.")
@click.option(
    "--shots", type=int, help="Only so many train images a class: a head on frozen features, over 20 draws."
)
@click.option("--eval-images", type=int, help="Val images kept in the bundle; 0 keeps none.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished bundle.")
@click.option("--force", is_flag=True, help="Replace a finished bundle, when the new one is finished.")
def command(output: Output, data: Path, out: Path, resume: bool, force: bool, **given: Any) -> None:
    """Fine-tune a pretrained network on the images in DATA, export it to ONNX and score it.

    DATA is a folder (train/CLASS/*, val/CLASS/*, or CLASS/* alone), a CSV file, or MNIST's or CIFAR's files.
    """
    from tledge.data import find
    from tledge.evaluation import stage
    from tledge.training import FinetuneSettings, finetune
    from tledge.training.clock import seconds
    from tledge.training.distributed import joined
    from tledge.training.follow import follow

    started = time.monotonic()
    if given["time"] is not None:
        given["time"] = seconds(given["time"])
    if given["from_bundle"] is not None:
        given["from_bundle"] = str(given["from_bundle"])
    settings = FinetuneSettings(**{name: value for name, value in given.items() if value is not None})
    with joined(settings.device) as team:
        if team.rank > 0:
            follow(team, find(data).root, settings)
            return
        bundle = finetune(find(data), out, settings, output.progress, resume=resume, force=force, team=team)
    document, text = stage_answer(bundle, bundle.ledger, time.monotonic() - started)
    if settings.shots is not None:
        document["shots"] = bundle.settings["finetune"]["chosen"]["shots"]
        text += f"\n{_shots(document['shots'], settings.shots)}"
    by_class = stage.by_class(bundle, stage.stage_name(*stage.REFERENCE))
    if by_class is not None:
        document["classes"] = by_class.as_dict(bundle.labels)
        text += f"\n{by_class.text(bundle.labels)}"
    output.show(document, text)


def _shots(found: dict[str, Any], shots: int) -> str:
    if found["draws"] == 1:
        return f"no class has more than {shots} images, so that there is no other draw to compare with"
    return (
        f"{shots} images a class over {found['draws']} draws: {found['mean']:.2f} % on average "
        f"({found['low']:.2f} to {found['high']:.2f}); one: {found['worst']:.2f} to {found['best']:.2f};\n"
        f"prototypes were chosen in {found['prototypes']} draws; the bundle holds the first's {found['head']}"
    )
