"""The command line: one lazy group, one file a command. No logic here, only words in and words out."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

from tledge import __version__
from tledge.cli.failure import guarded
from tledge.errors import UsageError, nearest

# name: (module under tledge.cli, one line of help). A module is imported only when its command is run.
COMMANDS = {
    "doctor": ("doctor", "What this machine can run, and what to install for the rest."),
    "demo": ("demo", "The whole job on real images, with no download."),
    "audit": ("audit", "What is wrong with a folder of images, before training finds out."),
    "advise": ("advise", "Which backbone? Measured on your images and on this machine."),
    "finetune": ("finetune", "Fine-tune a pretrained network on your images, export it, score it."),
    "sweep": ("sweep", "Which settings? Rates, augmentation and backbones tried, through Ray Tune."),
    "import": ("import_model", "Make a bundle out of an ONNX classifier trained elsewhere."),
    "evaluate": ("evaluate", "Score a variant on the bundle's eval images, or on a folder."),
    "calibrate": ("calibrate", "Make the INT8 and FP16 variants, and score them."),
    "build-engine": ("build_engine", "Build an engine for TensorRT, or for TensorRT for RTX."),
    "bench": ("bench", "Measure latency, from JPEG bytes to label, and say whether to believe it."),
    "predict": ("predict", "Label images."),
    "preprocess": ("preprocess", "Write the input tensor exactly as a device makes it."),
    "inspect": ("inspect", "Show a bundle: manifest, ledger; --verify checks every hash."),
    "serve": ("serve", "Answer images over HTTP."),
    "report": ("report", "Make one HTML page of what a bundle knows about itself, for people."),
    "drift": ("drift", "Do images from the field look like those that the network was made for?"),
    "export": ("export", "Take out the plain graph, or a bundle small enough for a board."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of a first session."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, or None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"tledge.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one names the nearest."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise UsageError(f"no such command: {args[0]}", hint=nearest(args[0], COMMANDS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their one line of help, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, "-V", "--version", prog_name="tledge")
def cli() -> None:
    """A folder of labelled photos in, a verified edge engine out.

    A first session: tledge finetune DATA -o B.tledge; tledge calibrate B.tledge; tledge bench B.tledge.
    Every command takes --json, --config FILE.toml, -v and -q. Exit codes: 0 done, 1 a fault of tledge, 2
    usage, 3 the environment lacks something, 4 a fault of the input, 5 accuracy gate, 6 bundle incompatible,
    7 latency budget or bench not valid, 130/143 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with the exit code of the contract."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(guarded(cli, words))
