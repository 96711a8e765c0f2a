"""Tiny networks for small tasks and for tests, trained from scratch: `tledge:cnn` and `tledge:mlp`."""

from __future__ import annotations

from torch import nn

from tledge.preprocess import Crop, Spec

SIZES = {"cnn": 32, "mlp": 28}  # MNIST's digits are 28 x 28; three halvings want a multiple of 8


def names() -> tuple[str, ...]:
    """Return the names of the tiny networks."""
    return tuple(SIZES)


def body(name: str, size: tuple[int, int]) -> nn.Module:
    """Return the untrained body `name` for images of `size`.

    `cnn`: three convolutions with batch norm, 128 features, 0.1 million weights. `mlp`: two layers of 512
    units with dropout, each pixel an input.
    """
    if name == "cnn":
        return nn.Sequential(
            *(_convolution(3, 32), nn.MaxPool2d(2)),
            *(_convolution(32, 64), nn.MaxPool2d(2)),
            *(_convolution(64, 128), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
    return nn.Sequential(
        nn.Flatten(),
        # Dropout of 0.2 near the input and 0.5 after it: Srivastava et al. (2014), in small.
        *(nn.Linear(3 * size[0] * size[1], 512), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.5)),
    )


def spec(name: str) -> Spec:
    """Return the preprocessing of the tiny network `name`: the image, cut to a square."""
    side = SIZES[name]
    return Spec(geometry=Crop(resize=side, size=(side, side)))


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
