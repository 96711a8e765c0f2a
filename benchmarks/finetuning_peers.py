"""The peers of finetuning.py: each fine-tunes by its own recipe, and prints a line of JSON an epoch.

finetuning.py runs it in an environment without tledge: `finetuning_peers.py PEER DATA WEIGHTS EPOCHS SEED`,
where WEIGHTS is a safetensors file of timm's tf_efficientnet_lite0. Importing and loading data are in a
peer's time, looking at val is not.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

NETWORK, SIDE, RESIZE, MEAN = "tf_efficientnet_lite0", 224, 256, (0.5, 0.5, 0.5)
WORKERS = 2


def processor() -> float:
    """Return the seconds of processor time of this process and of the workers that have ended."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


class Clock:
    """Seconds of the clock and of the processor since the start, without those spent on val."""

    def __init__(self) -> None:
        self.before = self.stopped = (time.monotonic(), 0.0)

    def stop(self) -> None:
        """Stop before val is looked at; `tell` goes on."""
        self.stopped = (time.monotonic(), processor())

    def tell(self, epoch: int, right: float) -> None:
        """Print an epoch's accuracy (0 to 1) on val, and go on."""
        wall, busy = (then - since for then, since in zip(self.stopped, self.before, strict=True))
        print(
            json.dumps({"epoch": epoch, "top1": 100 * right, "seconds": wall, "processor": busy}), flush=True
        )
        paused = (time.monotonic() - self.stopped[0], processor() - self.stopped[1])
        self.before = (self.before[0] + paused[0], self.before[1] + paused[1])


def network(weights: Path, classes: int) -> nn.Module:
    import timm

    made: nn.Module = timm.create_model(
        NETWORK, pretrained=True, pretrained_cfg_overlay={"file": str(weights)}, num_classes=classes
    )
    return made


def normalised() -> list[Any]:
    from torchvision import transforms

    return [transforms.ToTensor(), transforms.Normalize(MEAN, MEAN)]


@torch.inference_mode()
def right(model: nn.Module, data: Path) -> float:
    """Return the share of val that a network answers right, in float32."""
    from torchvision import datasets, transforms

    middle = [transforms.Resize(RESIZE), transforms.CenterCrop(SIDE), *normalised()]
    val = datasets.ImageFolder(data / "val", transforms.Compose(middle))
    loader = torch.utils.data.DataLoader(val, 32, num_workers=WORKERS)
    return sum(int((model(x).argmax(1) == y).sum()) for x, y in loader) / len(val)


def reference(data: Path, weights: Path, epochs: int, clock: Clock) -> None:
    """Train as PyTorch's transfer-learning tutorial does."""
    from torchvision import datasets, transforms

    varied = [transforms.RandomResizedCrop(SIDE), transforms.RandomHorizontalFlip(), *normalised()]
    train = datasets.ImageFolder(data / "train", transforms.Compose(varied))
    model = network(weights, len(train.classes))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    loader = torch.utils.data.DataLoader(train, 32, shuffle=True, num_workers=WORKERS, drop_last=True)
    for epoch in range(epochs):
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        schedule.step()
        clock.stop()
        clock.tell(epoch + 1, right(model.eval(), data))


def with_timm(data: Path, weights: Path, epochs: int, clock: Clock) -> None:
    """Train as timm's train.py does with the flags of finetuning.py's head."""
    import timm.data
    import timm.loss
    import timm.optim
    import timm.scheduler
    import timm.utils

    train = timm.data.create_dataset("", root=str(data), split="train", is_training=True)
    loader = timm.data.create_loader(
        train,
        input_size=(3, SIDE, SIDE),
        batch_size=32,
        is_training=True,
        use_prefetcher=False,
        auto_augment="rand-m6-mstd0.5-inc1",
        interpolation="bilinear",
        mean=MEAN,
        std=MEAN,
        num_workers=WORKERS,
    )
    model = network(weights, len(train.reader.class_to_idx)).to(memory_format=torch.channels_last)
    optimizer = timm.optim.create_optimizer_v2(
        model, opt="adamw", lr=5e-4, weight_decay=0.05, layer_decay=0.75
    )
    schedule, _ = timm.scheduler.create_scheduler_v2(
        optimizer,
        num_epochs=epochs,
        warmup_epochs=1,
        warmup_lr=1e-5,
        step_on_epochs=False,
        updates_per_epoch=len(loader),
    )
    averaged = timm.utils.ModelEmaV3(model, decay=0.9998, use_warmup=True)
    loss = timm.loss.LabelSmoothingCrossEntropy(0.1)
    step = 0
    for epoch in range(epochs):
        model.train()
        for x, y in loader:
            with torch.autocast("cpu", torch.bfloat16):
                value = loss(model(x.to(memory_format=torch.channels_last)), y)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            step += 1
            averaged.update(model, step=step)
            schedule.step_update(step)
        clock.stop()
        clock.tell(epoch + 1, max(right(one.eval(), data) for one in (model, averaged.module)))


def with_fastai(data: Path, weights: Path, epochs: int, clock: Clock) -> None:
    """Train by `fine_tune` on images presized as in fastai's book; the frozen epoch counts as one."""
    from fastai.vision.all import Callback, ImageDataLoaders, Resize, accuracy, aug_transforms, vision_learner

    class Watch(Callback):  # type: ignore[misc]
        done = 0

        def before_validate(self) -> None:
            clock.stop()

        def after_epoch(self) -> None:
            self.done += 1
            clock.tell(self.done, float(self.recorder.values[-1][-1]) if self.recorder.values else 0.0)

    loaders = ImageDataLoaders.from_folder(
        data,
        train="train",
        valid="val",
        item_tfms=Resize(460),
        batch_tfms=aug_transforms(size=SIDE, min_scale=0.75),
        num_workers=WORKERS,
    )
    learner = vision_learner(
        loaders, NETWORK, metrics=accuracy, pretrained_cfg_overlay={"file": str(weights)}
    )
    Watch.order = learner.recorder.order + 1
    learner.add_cb(Watch())
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs - 1)


PEERS = {"reference": reference, "timm": with_timm, "fastai": with_fastai}

if __name__ == "__main__":
    peer, data, weights, epochs, seed = sys.argv[1:]
    torch.manual_seed(int(seed))
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    PEERS[peer](Path(data), Path(weights), int(epochs), Clock())
