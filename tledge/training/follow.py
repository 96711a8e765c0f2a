"""What the other processes of a run do: take over what the first one starts the epochs with, and help."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tledge.bundle import TrainFile
from tledge.errors import InputError
from tledge.preprocess import Spec, preprocessor
from tledge.progress import Progress
from tledge.training import checkpoint, features, loop, start
from tledge.training.checkpoint import Checkpoint
from tledge.training.device import choose, threads
from tledge.training.distributed import Team, synchronised
from tledge.training.images import Images
from tledge.training.material import Material
from tledge.training.settings import FinetuneSettings
from tledge.training.start import Start
from tledge.training.state import begin, restore


def hand_out(begun: Start, material: Material, settings: FinetuneSettings, checkpoints: Path) -> None:
    """Give the others the start, the last epoch that `checkpoints` holds, and which images to train on."""
    if material.team.size == 1:
        return
    if len(material.train_on) < material.team.size:
        raise InputError(
            f"{len(material.train_on)} images to train on are too few for {material.team.size} processes",
            hint="Run it without torchrun.",
        )
    packed, spec = start.pack(begun), material.prepare.spec
    files = [dataclasses.asdict(file) for file in material.images.files]
    more = {"files": files, "spec": spec.to_json(), "settings": dataclasses.asdict(settings)}
    material.team.hand_out(Checkpoint(packed.tensors, {**packed.data, **more}))
    material.team.hand_out(checkpoint.latest(checkpoints, loop.KIND) or Checkpoint({}, {}))


def follow(team: Team, root: Path, asked: FinetuneSettings) -> None:
    """Help with the epochs of the first process until it says that there are no more.

    Args:
        team: of two processes or more, of which this is not the first.
        root: where the data set lies on this machine.
        asked: the number of workers and the device here; all else is as the first process says.

    Raises:
        InputError: an image cannot be read here, or is another one.
        MachineError: the first process is gone.
        UsageError: the loss is not a number any more.
    """
    given, last = team.receive(), team.receive()
    begun = start.unpack(given)
    settings = FinetuneSettings(**given.data["settings"])
    spec = Spec.from_json(given.data["spec"])
    files = [TrainFile(**file) for file in given.data["files"]]
    device = choose(asked.device, team.local)
    material = Material(
        images=Images(files, root, spec),
        train_on=tuple(index for index, file in enumerate(files) if file.part == "train"),
        tune_on=(),
        prepare=preprocessor(spec, "host"),
        device=device,
        progress=Progress.silent(),
        workers=asked.threads,
        team=team,
    )
    network = features.place(begun.network, device)
    network.body.requires_grad_(settings.freeze != "backbone")
    state = begin(network, begun.recipe)
    if last.tensors:
        restore(state, last)
    with threads(settings.backbone):
        while epoch := team.agree():
            with synchronised(network, team):
                loop.run_epoch(state, material, begun.recipe, epoch)
