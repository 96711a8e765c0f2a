"""The reference against Pillow's own resize and torchvision's transforms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image
from PIL import __version__ as pillow_version

from tests.preprocess.strategies import images, specs
from tledge.preprocess import Crop, Letterbox, Spec, preprocessor
from tledge.preprocess.geometry import window
from tledge.preprocess.golden import picture
from tledge.preprocess.tables import normalisation

ORDER_TURNS = int(pillow_version.split(".")[0]) >= 13


@settings(max_examples=150, deadline=None)
@given(specs(), images(largest=300))
def test_one_call_of_pillow(spec: Spec, image: np.ndarray) -> None:
    height, width, _ = image.shape
    place = window(spec.geometry, width, height)
    # Pillow 13 resizes tall images vertically first, with other bits.
    down = height - place.resized_height
    if ORDER_TURNS and down > 0 and down > 2 * (width - place.resized_width):
        return
    source = Image.fromarray(np.ascontiguousarray(image))
    resized = source.resize(
        (place.resized_width, place.resized_height), Image.Resampling[spec.filter.upper()]
    )
    expected = np.asarray(resized)[place.top :, place.left :][: place.height, : place.width]
    made = preprocessor(spec, "pillow").pixels(image)
    inner = made[place.pad_top :, place.pad_left :][: place.height, : place.width]
    assert np.array_equal(inner, expected)
    if isinstance(spec.geometry, Letterbox):
        border = np.ones(made.shape[:2], bool)
        border[
            place.pad_top : place.pad_top + place.height, place.pad_left : place.pad_left + place.width
        ] = 0
        assert (made[border] == spec.geometry.fill).all()


@pytest.mark.parametrize("size", [(375, 500), (500, 375), (100, 90), (256, 256), (1, 1), (300, 7)])
def test_torchvision(size: tuple[int, int]) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    spec = Spec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    image = picture(*size)
    # Two calls, as the specification's order of passes needs; torchvision makes one.
    resized = transforms.Compose(
        [transforms.Resize(256, transforms.InterpolationMode.BILINEAR), transforms.CenterCrop(224)]
    )(Image.fromarray(image))
    made = preprocessor(spec, "pillow")
    if size != (300, 7) or not ORDER_TURNS:
        assert np.array_equal(made.pixels(image), np.asarray(resized))
    tensor = transforms.Normalize(spec.mean, spec.std)(
        transforms.ToTensor()(Image.fromarray(made.pixels(image)))
    )
    # Three roundings to float32 there, one here.
    np.testing.assert_allclose(made(image), tensor.numpy(), rtol=0, atol=7e-7)


def test_normalisation_is_rounded_once() -> None:
    spec = Spec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    table = normalisation(spec)
    assert table.shape == (3, 256)
    assert table[1, 100] == np.float32((100 / 255 - 0.456) / 0.224)
    assert normalisation(Spec(dtype="float16"))[0, 7] == np.float16((7 / 255 - 0.5) / 0.5)


def test_integers_saturate_and_round_to_even() -> None:
    raw = Spec(mean=(0, 0, 0), std=(1, 1, 1), dtype="uint8", scale=1 / 255, zero_point=0)
    assert np.array_equal(normalisation(raw)[0], np.arange(256))
    shifted = Spec(mean=(0, 0, 0), std=(1, 1, 1), dtype="int8", scale=2 / 255, zero_point=100)
    # 0.5 and 2.5 go down, 1.5 up; everything from 127 on is 127.
    assert normalisation(shifted)[0, :8].tolist() == [100, 100, 101, 102, 102, 102, 103, 104]
    assert normalisation(shifted)[0, 255] == 127


def test_colour_order_and_layout() -> None:
    image = picture(70, 90)
    geometry = Crop(64, (48, 32))
    planes = preprocessor(Spec(geometry=geometry), "pillow")(image)
    swapped = preprocessor(Spec.from_json(Spec(geometry=geometry).to_json().replace("rgb", "bgr")), "pillow")
    assert np.array_equal(swapped(image), planes[::-1])
    assert np.array_equal(
        swapped.pixels(image), preprocessor(Spec(geometry=geometry), "pillow").pixels(image)
    )
    last = preprocessor(Spec(geometry=geometry, layout="NHWC"), "pillow")(image)
    assert np.array_equal(last, planes.transpose(1, 2, 0))


def test_batch_and_normalise() -> None:
    made = preprocessor(Spec(geometry=Crop(40, (32, 32))), "pillow")
    several = [picture(50, 60), picture(70, 33)]
    batch = made.batch(several)
    assert batch.shape == (2, 3, 32, 32)
    assert np.array_equal(batch[1], made(several[1]))
    assert np.array_equal(made.normalise(np.stack([made.pixels(image) for image in several])), batch)
