"""Specifications from torchvision's and timm's own transforms, checked by running both."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tledge.errors import InputError
from tledge.preprocess import Box, Crop, Spec, preprocessor
from tledge.preprocess.golden import picture
from tledge.preprocess.transforms import from_transform

torch = pytest.importorskip("torch")
v1 = pytest.importorskip("torchvision.transforms")
v2 = pytest.importorskip("torchvision.transforms.v2")
models = pytest.importorskip("torchvision.models")

NORMALISE = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Wider than tall, so that no version of Pillow turns the order of the passes.
IMAGE = picture(301, 402)


def runs_alike(transform: object, spec: Spec) -> None:
    theirs = transform(Image.fromarray(IMAGE)).numpy()
    np.testing.assert_allclose(preprocessor(spec)(IMAGE), theirs, rtol=0, atol=1e-6)


def test_every_preset_of_torchvision() -> None:
    presets = {
        str(weights.DEFAULT.transforms()): weights.DEFAULT.transforms()
        for name in models.list_models(module=models)
        for weights in [models.get_model_weights(name)]
        if type(weights.DEFAULT.transforms()).__name__ == "ImageClassification"
    }
    assert len(presets) > 20
    for preset in presets.values():
        spec = from_transform(preset)
        assert spec.size == (preset.crop_size[0],) * 2
        if preset.crop_size[0] <= 240:
            runs_alike(preset, spec)


@pytest.mark.parametrize(
    "transform",
    [
        v1.Compose([v1.Resize(256), v1.CenterCrop(224), v1.ToTensor(), v1.Normalize(*NORMALISE)]),
        v1.Compose([v1.Resize((96, 64), v1.InterpolationMode.BICUBIC), v1.ToTensor()]),
        v1.Compose(
            [v1.Resize([70]), v1.CenterCrop([64, 48]), v1.PILToTensor(), v1.ConvertImageDtype(torch.float32)]
        ),
        v1.Compose([v1.Resize((99, 120), v1.InterpolationMode.NEAREST), v1.CenterCrop((64,)), v1.ToTensor()]),
        v2.Compose(
            [
                v2.Resize(80, v2.InterpolationMode.LANCZOS),
                v2.CenterCrop(64),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(*NORMALISE),
            ]
        ),
    ],
)
def test_compose(transform: object) -> None:
    runs_alike(transform, from_transform(transform))


def test_timm() -> None:
    data = pytest.importorskip("timm.data")
    for size, fraction, mode in ((224, 0.875, "bicubic"), (96, 0.9, "bilinear"), (64, 1.0, "bicubic")):
        transform = data.create_transform(size, crop_pct=fraction, interpolation=mode, is_training=False)
        spec = from_transform(transform)
        assert spec.geometry == Crop.from_crop_pct(size, fraction)
        assert spec.filter == mode
        runs_alike(transform, spec)
    squash = data.create_transform((64, 96), crop_pct=1.0, crop_mode="squash", is_training=False)
    assert from_transform(squash).size == (64, 96)
    assert from_transform(v1.Compose([v1.Resize((5, 7)), v1.ToTensor()])).geometry == Box((5, 7))


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([v1.Resize(256), v1.FiveCrop(224), v1.ToTensor()], "FiveCrop"),
        ([v1.RandomResizedCrop(224), v1.ToTensor()], "RandomResizedCrop"),
        ([v1.Resize(256), v1.Lambda(abs), v1.ToTensor()], "Lambda"),
        ([v1.CenterCrop(224), v1.Resize(256), v1.ToTensor()], "order"),
        ([v1.Resize(256), v1.Resize(128), v1.ToTensor()], "order"),
        ([v1.CenterCrop(224), v1.ToTensor()], "no Resize"),
        ([v1.Resize(256), v1.ToTensor()], "different sizes"),
        ([v1.Resize(256, max_size=300), v1.CenterCrop(224)], "max_size"),
        ([v1.Resize(200), v1.CenterCrop(224), v1.ToTensor()], "does not fit"),
        ([v1.Resize((8, 8)), v1.ConvertImageDtype(torch.float16)], "float16"),
        ([v2.Resize((8, 8)), v2.ToImage(), v2.ToDtype(torch.float32)], "scale"),
        ([v1.Resize((8, 8)), v1.ToTensor(), v1.Normalize((0.5,), (0.5,))], "1 channels"),
    ],
)
def test_refused_by_name(steps: list[object], words: str) -> None:
    with pytest.raises(InputError) as caught:
        from_transform(v1.Compose(steps))
    assert words in caught.value.message


def test_other_objects_are_refused() -> None:
    with pytest.raises(InputError, match="ToTensor"):
        from_transform(v1.ToTensor())
