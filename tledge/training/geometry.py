"""Which part of an image the network sees: the middle, as in its pretraining, or all of it, squashed.

The centre crop of ImageNet's networks shows 57 % of a photo of 4 to 3, and 31 % of an image that is two and a
half times as long as it is high: what stands at its ends, a defect of a surface say, is never seen. Squashed
images look odd to the pretrained network. A probe tells which of the two costs less.
"""

from __future__ import annotations

import dataclasses

from tledge.models import Network, is_scratch
from tledge.preprocess import Box, Crop, Spec, preprocessor
from tledge.progress import Progress
from tledge.training import balance, features, probe
from tledge.training.choosing import clearly_worse, tempered_losses, top1
from tledge.training.contents import Found
from tledge.training.device import Device
from tledge.training.images import Images
from tledge.training.material import Material
from tledge.training.settings import FinetuneSettings

# Where nine of ten images show more than this of their area, the crop is not asked about.
SHOWN = 0.45
MOST_IMAGES = 600


def shown(spec: Spec, elongation: float) -> float:
    """Return the share of its area that an image, `elongation` times as long as short, shows: 1 for a Box."""
    if not isinstance(spec.geometry, Crop) or not isinstance(spec.geometry.resize, int):
        return 1.0
    height, width = spec.geometry.size
    return height * width / (spec.geometry.resize**2 * elongation)


def fitted(
    begun: tuple[Network, Spec],
    found: Found,
    settings: FinetuneSettings,
    device: Device,
    progress: Progress,
) -> tuple[Network, Spec]:
    """Return the network and its spec, the crop replaced by a squashed whole where the data need their ends.

    The whole is taken only if a probe on cropped images is clearly worse, judged on images that it was not
    fitted on (five folds of at most 600 train and tune images).

    Raises:
        InputError: an image cannot be read.
    """
    network, spec = begun
    scratch = is_scratch(settings.backbone, settings.weights)
    if settings.from_bundle is not None or scratch or shown(spec, found.elongation) >= SHOWN:
        return begun
    whole = dataclasses.replace(spec, geometry=Box(spec.size))
    judged = [_judged((network, one), found, settings, device, progress) for one in (spec, whole)]
    (cropped_losses, cropped_top1), (whole_losses, whole_top1) = judged
    squash = clearly_worse(cropped_losses, cropped_top1, whole_losses, whole_top1)
    progress.note(
        f"a tenth of the images show {shown(spec, found.elongation):.0%} or less in the centre crop: a probe "
        f"is right for {cropped_top1:.1f} % of crops, {whole_top1:.1f} % of squashed wholes; "
        f"{'the whole' if squash else 'the crop'} is taken"
    )
    return network, whole if squash else spec


def _judged(
    begun: tuple[Network, Spec],
    found: Found,
    settings: FinetuneSettings,
    device: Device,
    progress: Progress,
) -> tuple[list[float], float]:
    """Return each image's loss, and the percentage of right answers, of a probe that did not see it."""
    network, spec = begun
    files = found.train_files()
    taken = tuple(range(0, len(files), -(-len(files) // MOST_IMAGES)))
    material = Material(
        images=Images(files, found.dataset.root, spec),
        train_on=taken,
        tune_on=(),
        prepare=preprocessor(spec, "host"),
        device=device,
        progress=progress,
        workers=settings.threads,
    )
    placed = features.place(network, device).eval()
    title = f"features of {'crops' if isinstance(spec.geometry, Crop) else 'squashed wholes'}"
    (seen,) = features.over(placed.features, material, taken, title=title)
    labels, classes = material.train_labels, network.config["classes"]
    logits = probe.held_out(seen, labels, classes)
    weights = balance.weights(labels, balance.strength(labels, classes, settings.logit_adjust))
    return tempered_losses(logits, labels, weights).tolist(), top1(logits, labels, weights)
