"""A specification in a line for people."""

from __future__ import annotations

from tledge.preprocess.spec import Box, Crop, Spec


def in_words(spec: Spec) -> str:
    """Return how an image is decoded and resized under `spec`."""
    height, width = spec.size
    exif = "EXIF orientation applied" if spec.decode.exif else "EXIF orientation ignored"
    how = f"{spec.filter}, {spec.decode.colour.upper()}, {exif}"
    if spec.decode.jpeg == "fast":
        how += ", large JPEGs decoded fast at a part of their size"
    if spec.frames.order == "planes-first":
        how += ", frames' planes resized before conversion"
    if isinstance(spec.geometry, Crop):
        resize = spec.geometry.resize
        first = (
            f"shorter side to {resize}"
            if isinstance(resize, int)
            else f"resized to {resize[0]} × {resize[1]}"
        )
        return f"{first}, centre crop {height} × {width}; {how}"
    kind = "squashed" if isinstance(spec.geometry, Box) else "letterboxed"
    return f"{kind} to {height} × {width}; {how}"
