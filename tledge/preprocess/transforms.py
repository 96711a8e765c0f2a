"""A specification out of a torchvision or timm evaluation transform.

The transform is read, not run, and neither library is imported: classes are known by their names. What the
specification cannot express is refused by name, never approximated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tledge.errors import InputError
from tledge.preprocess.spec import Box, Crop, Filter, Geometry, Spec

# torchvision's InterpolationMode values. Both nearest modes are Pillow's NEAREST when the image is Pillow's.
FILTERS: dict[str, Filter] = {
    "nearest": "nearest",
    "nearest-exact": "nearest",
    "box": "box",
    "bilinear": "bilinear",
    "hamming": "hamming",
    "bicubic": "bicubic",
    "lanczos": "lanczos",
}
# The order in which steps may come; those of one number may come together.
RESIZE, CROP, TENSOR, NORMALISE = range(1, 5)
STEPS = {
    "Resize": RESIZE,
    "CenterCrop": CROP,
    "ToTensor": TENSOR,
    "MaybeToTensor": TENSOR,
    "PILToTensor": TENSOR,
    "MaybePILToTensor": TENSOR,
    "ToImage": TENSOR,
    "ConvertImageDtype": TENSOR,
    "ToDtype": TENSOR,
    "Normalize": NORMALISE,
}


@dataclass(frozen=True)
class _Found:
    """What the steps of a transform say."""

    resize: int | tuple[int, int]
    method: Filter
    crop: tuple[int, int] | None
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def spec(self) -> Spec:
        geometry: Geometry
        if self.crop is not None:
            geometry = Crop(self.resize, self.crop)
        elif isinstance(self.resize, tuple):
            geometry = Box(self.resize)
        else:
            raise InputError(
                f"Resize({self.resize}) without CenterCrop gives images of different sizes",
                hint="resize to (height, width), or crop",
            )
        return Spec(geometry=geometry, filter=self.method, mean=self.mean, std=self.std)


def from_transform(transform: object) -> Spec:
    """Return the specification of an evaluation transform that is applied to Pillow images.

    Args:
        transform: a Compose of Resize, CenterCrop, conversion to a float tensor and Normalize, in that order,
            of torchvision (v1 or v2) or timm; or a torchvision preset (`weights.transforms()`).

    Raises:
        InputError: a step that the specification cannot express; it is named.
    """
    values = vars(transform)
    if type(transform).__name__ == "ImageClassification":
        return _Found(
            resize=_length(values["resize_size"], transform),
            method=_filter(values["interpolation"], transform),
            crop=_both(values["crop_size"]),
            mean=_three(values["mean"], transform),
            std=_three(values["std"], transform),
        ).spec()
    steps = values.get("transforms")
    if not isinstance(steps, (list, tuple)):
        raise _refused(transform, "it is neither a Compose nor a torchvision preset for classification")
    return _read(steps).spec()


def _read(steps: list[Any] | tuple[Any, ...]) -> _Found:
    """Read the steps of a Compose."""
    found: dict[int, dict[str, Any]] = {}
    last = 0
    for step in steps:
        position = STEPS.get(type(step).__name__)
        if position is None:
            raise _refused(step, "no field of the specification says what it does")
        if position < last or (position == last and position != TENSOR):
            raise _refused(
                step, "steps are Resize, CenterCrop, conversion to a tensor, Normalize, in that order"
            )
        last = position
        if position == TENSOR:
            _check_conversion(step)
        found[position] = {"step": step, **vars(step)}
    if RESIZE not in found:
        raise InputError("the transform has no Resize", hint="a specification always resizes; add one")
    resize = found[RESIZE]
    if resize.get("max_size") is not None:
        raise _refused(resize["step"], "max_size has no field")
    more: dict[str, Any] = {}
    if NORMALISE in found:
        step = found[NORMALISE]["step"]
        more = {name: _three(found[NORMALISE][name], step) for name in ("mean", "std")}
    return _Found(
        resize=_length(resize["size"], resize["step"]),
        method=_filter(resize.get("interpolation", "bilinear"), resize["step"]),
        crop=_both(found[CROP]["size"]) if CROP in found else None,
        **more,
    )


def _check_conversion(step: Any) -> None:
    """Refuse a conversion that does not end in floats of 0 to 1."""
    dtype = getattr(step, "dtype", None)
    if isinstance(dtype, dict):
        raise _refused(step, "a type for each kind of input has no field")
    if dtype is not None and not str(dtype).endswith("float32"):
        raise _refused(step, f"it converts to {dtype}; give the specification its own dtype instead")
    if getattr(step, "scale", True) is not True:
        raise _refused(step, "without scale=True values stay 0 to 255")


def _length(size: Any, step: object) -> int | tuple[int, int]:
    """Return what Resize makes: the shorter side, or height and width."""
    if isinstance(size, int):
        return size
    if isinstance(size, (list, tuple)) and len(size) in {1, 2}:
        return int(size[0]) if len(size) == 1 else (int(size[0]), int(size[1]))
    raise _refused(step, f"its size is {size!r}")


def _both(size: Any) -> tuple[int, int]:
    """Return height and width of a crop."""
    if isinstance(size, int):
        return size, size
    return int(size[0]), int(size[-1])


def _filter(interpolation: Any, step: object) -> Filter:
    name = str(getattr(interpolation, "value", interpolation))
    if name not in FILTERS:
        raise _refused(step, f"its interpolation is {name!r}")
    return FILTERS[name]


def _three(values: Any, step: object) -> tuple[float, float, float]:
    numbers = [float(value) for value in values]
    if len(numbers) != 3:
        raise _refused(step, f"it normalises {len(numbers)} channels")
    return numbers[0], numbers[1], numbers[2]


def _refused(step: object, why: str) -> InputError:
    return InputError(
        f"the transform {type(step).__name__} cannot be written as a specification: {why}",
        hint="write the specification by hand; docs/preprocessing.md describes it",
    )
