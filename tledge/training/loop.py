"""Fine-tuning all weights: the epochs, and the best of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tledge.errors import UsageError
from tledge.models import Network
from tledge.progress import Progress
from tledge.training import balance, checkpoint, features
from tledge.training.augment import generator, view
from tledge.training.choosing import best_epoch, stalled, tempered_losses, top1
from tledge.training.clock import Clock, OutOfTime
from tledge.training.device import Device
from tledge.training.distributed import synchronised
from tledge.training.images import batches
from tledge.training.material import Material
from tledge.training.micro import accumulate
from tledge.training.rates import schedule
from tledge.training.state import Recipe, State, begin, pack, restore

KIND = "epoch"


def train(
    network: Network,
    material: Material,
    recipe: Recipe,
    directory: Path,
    *,
    teacher: Network | None = None,
    clock: Clock | None = None,
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Run the epochs that `directory` has no checkpoint of; return the best weights and the epochs' history.

    With a `teacher` half of the loss is the divergence from its answers (Hinton et al., 2015). An epoch in
    which the time of the `clock` is over is left out, and the run ends with what was best before.

    Raises:
        UsageError: the loss is not a number any more; the last epoch's checkpoint is kept.
        BundleError: a checkpoint is damaged.
    """
    clock = clock or Clock()
    state = begin(network, recipe)
    stored = checkpoint.latest(directory, KIND)
    if stored is not None:
        restore(state, stored)
        clock.before = max(clock.before, state.seconds)
        material.progress.note(f"going on after epoch {len(state.history)} of {recipe.epochs}")
    quiet = dataclasses.replace(material, progress=Progress.silent())
    weights = balance.weights(material.tune_labels, recipe.logit_adjust)
    while len(state.history) < recipe.epochs and not stalled(
        state.tune_losses, state.answers, recipe.patience
    ):
        epoch = material.team.agree(len(state.history) + 1)
        try:
            ticking = clock if state.history or clock.probe else None
            with synchronised(network, material.team):
                loss = run_epoch(state, material, recipe, epoch, teacher=teacher, clock=ticking)
        except OutOfTime:
            clock.cut = True
            material.progress.note(f"the time is over in epoch {epoch}: going on with what is best so far")
            break
        entry: dict[str, float] = {"epoch": epoch, "loss": loss}
        if material.tune_on:
            (logits,) = features.over(state.averaged.eval(), quiet, material.tune_on, title="scoring on tune")
            if not np.isfinite(logits).all():  # the last step broke the network, and no loss has told of it
                raise _lost(epoch, "after the last step", recipe)
            losses = tempered_losses(logits, material.tune_labels, weights)
            entry |= {
                "tune_loss": float(losses.mean()),
                "tune_top1": top1(logits, material.tune_labels),
                "tune_balanced": top1(logits, material.tune_labels, weights),
            }
            state.tune_losses.append(losses.tolist())
        if state.pieces.most:
            entry["micro_batch"] = state.pieces.most
        state.history.append(entry)
        if material.watch is not None:
            rate = max(group["lr"] for group in state.optimizer.param_groups)
            material.watch(epoch, entry | {"rate": rate})
        if best_epoch(state.tune_losses, state.answers) in (None, epoch):
            state.best = {name: tensor.clone() for name, tensor in state.averaged.state_dict().items()}
        state.seconds = clock.used
        checkpoint.write(directory / f"{KIND}-{epoch:04d}.safetensors", pack(state))
        material.progress.note("  ".join(f"{name} {value:.4g}" for name, value in entry.items()))
    material.team.agree(0)
    return state.best, state.history


def run_epoch(
    state: State,
    material: Material,
    recipe: Recipe,
    epoch: int,
    *,
    teacher: Network | None = None,
    clock: Clock | None = None,
) -> float:
    """Train one epoch (from 1) and return the mean loss; OutOfTime where the clock says so.

    Everything random comes from (seed, epoch, index), so an epoch does not depend on how it was come to.
    """
    team = material.team
    order = np.random.default_rng((recipe.seed, epoch)).permutation(np.asarray(material.train_on))
    # Batch norm has no statistics of one image, and each process wants one; others are left out next time.
    if len(order) % recipe.batch_size < max(team.size, 2 if recipe.batch_norm == "batch" else 1):
        order = order[: len(order) - len(order) % recipe.batch_size]
    torch.manual_seed((recipe.seed * 1_000_003 + epoch) * team.size + team.rank)
    mine, each = team.share(order.tolist(), recipe.batch_size)
    steps = -(-len(order) // recipe.batch_size)
    _mode(state.network, recipe.batch_norm)

    images, device, prepare = material.images, material.device, material.prepare
    classes = int(state.network.config["classes"])
    shifts = torch.from_numpy(balance.shifts(material.train_labels, classes, recipe.logit_adjust)).to(
        device.torch
    )

    def make(index: int) -> NDArray[np.uint8]:
        return view(
            images.small(index), recipe.size, recipe.augmentation, generator(recipe.seed, epoch, index)
        )

    total = 0.0
    with material.progress.task(f"epoch {epoch} of {recipe.epochs}", total=len(order)) as task:
        for step, (indices, pixels) in enumerate(batches(make, mine, each, material.workers)):
            together = min(recipe.batch_size, len(order) - step * recipe.batch_size)
            if clock is not None:
                clock.check()
            factor = schedule((epoch - 1) * steps + step, recipe.epochs * steps, recipe.warmup)
            for group in state.optimizer.param_groups:
                group["lr"] = group["peak"] * factor
            x = features.upload(prepare.normalise(pixels), device)
            y = torch.from_numpy(images.labels[indices]).to(device.torch)

            def part(start: int, end: int, x: Tensor = x, y: Tensor = y, together: int = together) -> Tensor:
                with device.autocast():
                    logits = state.network(x[start:end])
                loss = nn.functional.cross_entropy(
                    logits.float() + shifts, y[start:end], label_smoothing=recipe.label_smoothing
                )
                if teacher is not None:
                    loss = (loss + _divergence(teacher, x[start:end], logits, device)) / 2
                return loss * ((end - start) / together)  # of the mean over what all processes have

            value = accumulate(
                part, len(indices), state.optimizer, state.pieces, material.progress, alone=team.size == 1
            )
            value = team.add_up(state.network, value)
            if not np.isfinite(value):
                raise _lost(epoch, f"at step {step + 1} of {steps}", recipe)
            nn.utils.clip_grad_norm_(
                state.network.parameters(), 5.0
            )  # one odd batch must not undo a thousand
            state.optimizer.step()
            _average(state, decay=1 - 1 / min(max(steps, 10), 1 + (epoch - 1) * steps + step))
            total += value * together
            task.advance(together, note=f"loss {value:.3f}")
    return total / len(order)


def _divergence(teacher: Network, x: Tensor, logits: Tensor, device: Device) -> Tensor:
    """Return the mean Kullback-Leibler divergence of softmax(logits) from the teacher's answers."""
    with torch.no_grad(), device.autocast():
        right = teacher(x).float().log_softmax(dim=1)
    return nn.functional.kl_div(
        logits.float().log_softmax(dim=1), right, reduction="batchmean", log_target=True
    )


def _mode(network: Network, batch_norm: str) -> None:
    network.train()
    frozen = all(not parameter.requires_grad for parameter in network.body.parameters())
    if frozen and any(True for _ in network.body.parameters()):
        network.body.eval()
    if batch_norm == "frozen":
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


@torch.no_grad()
def _average(state: State, decay: float) -> None:
    """Move the averaged network towards the trained one: a mean over the last epoch or so."""
    ours, theirs = state.averaged.state_dict(), state.network.state_dict()
    for name, tensor in ours.items():
        if tensor.is_floating_point():
            tensor.lerp_(theirs[name], 1 - decay)
        else:
            tensor.copy_(theirs[name])


def _lost(epoch: int, when: str, recipe: Recipe) -> UsageError:
    kept = f"the checkpoint of epoch {epoch - 1} is kept" if epoch > 1 else "no epoch was finished"
    return UsageError(
        f"the loss is not a number any more {when} in epoch {epoch}; {kept}",
        hint=f"The learning rate is likely too high: it was {recipe.lr:g}. Start anew with --force --lr "
        f"{recipe.lr / 10:g}.",
    )
