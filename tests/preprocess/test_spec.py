"""The specification: what it accepts, what it refuses and with which words, and its JSON."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given

from tests.preprocess.strategies import specs
from tledge.errors import InputError
from tledge.preprocess import Box, Crop, Letterbox, Spec, preprocessor


@given(specs())
def test_json_round_trip(spec: Spec) -> None:
    text = spec.to_json()
    again = Spec.from_json(text)
    assert again == spec
    assert again.to_json() == text
    assert again.sha256 == spec.sha256


def test_json_is_readable_by_others() -> None:
    document = json.loads(Spec().to_json())
    assert document["schema"] == 1
    assert document["geometry"] == {"kind": "crop", "resize": 256, "size": [224, 224]}
    assert document["mean"] == [0.5, 0.5, 0.5]


def test_what_was_not_chosen_is_not_written() -> None:
    assert "frames" not in json.loads(Spec().to_json())
    chosen = Spec().with_frames("planes-first")
    assert json.loads(chosen.to_json())["frames"] == {"order": "planes-first"}
    assert chosen.with_frames("convert-first").sha256 == Spec().sha256 != chosen.sha256


def changed(**values: object) -> str:
    return json.dumps({**json.loads(Spec().to_json()), **values})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "list"),
        (b"\xff\xfe", "not JSON"),
        (changed(filtre="box"), "did you mean 'filter'?"),
        (changed(filter="bilinaer"), "did you mean 'bilinear'?"),
        (changed(schema=2), "schema 2"),
        (changed(mean=[0.5, math.nan, 0.5]), "mean"),
        (changed(mean=[0.5, 0.5]), "mean"),
        (changed(mean="0.5"), "mean"),
        (changed(std=[1, 0, 1]), "std"),
        (changed(std=[1, -1, 1]), "std"),
        (changed(std=[1, math.inf, 1]), "std"),
        (changed(dtype="int8"), "scale"),
        (changed(dtype="int8", scale=0.0, zero_point=0), "scale"),
        (changed(dtype="int8", scale=0.1, zero_point=200), "zero_point"),
        (changed(scale=0.1), "scale"),
        (changed(layout="CHW"), "NCHW"),
        (changed(decode={"colour": "bgr", "exiff": True}), "did you mean 'exif'?"),
        (changed(decode={"exif": 1}), "decode.exif"),
        (changed(frames={"order": "planes"}), "planes-first"),
        (changed(frames={"ordre": "planes-first"}), "did you mean 'order'?"),
        (changed(frames=1), "frames"),
        (changed(geometry={"kind": "corp", "size": [2, 2]}), "did you mean 'crop'?"),
        (changed(geometry={"kind": "crop", "size": [2, 2]}), "resize"),
        (changed(geometry={"kind": "crop", "resize": 100, "size": [99, 101]}), "does not fit"),
        (changed(geometry={"kind": "box", "size": [0, 5]}), "size"),
        (changed(geometry={"kind": "box", "size": [5.0, 5]}), "size"),
        (changed(geometry={"kind": "box", "size": [5, 100000]}), "size"),
        (changed(geometry={"kind": "letterbox", "size": [5, 5], "fill": [0, 0, 256]}), "fill"),
        (changed(geometry=7), "geometry"),
        ('{"schema": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}', "'geometry'"),
    ],
)
def test_refuses(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Spec.from_json(text, path="a/preprocess.json")
    assert words in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.path == "a/preprocess.json"
    assert caught.value.hint or "not JSON" in caught.value.message


def test_refuses_from_python() -> None:
    with pytest.raises(InputError, match="mean"):
        Spec(mean=(math.nan, 0.0, 0.0))
    with pytest.raises(InputError, match="does not fit"):
        Crop(224, (256, 224))
    with pytest.raises(InputError, match="crop_pct"):
        Crop.from_crop_pct(224, 1.5)
    with pytest.raises(InputError, match="using"):
        preprocessor(Spec(), using="gpu")


def test_crop_pct_is_timms() -> None:
    assert Crop.from_crop_pct(224, 0.875) == Crop(256, (224, 224))
    assert Crop.from_crop_pct(260, 0.904) == Crop(287, (260, 260))
    assert Crop.from_crop_pct((96, 224), 1.0) == Crop(224, (96, 224))


def test_shape() -> None:
    assert Spec(geometry=Box((3, 5))).shape == (3, 3, 5)
    assert Spec(geometry=Letterbox((3, 5)), layout="NHWC").shape == (3, 5, 3)
