"""What the numbers of a Y'CbCr stream mean: from the stream, else its standard, else the caller; no guess."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tledge.errors import InputError
from tledge.preprocess.frames import YUV, Matrix, Range, Siting

# Hints for what nobody said; the first is the usual one of high definition, the second of what is smaller.
USUAL = {"matrix": "bt709 or bt601", "range": "limited or full", "siting": "left or centre"}


@dataclass(frozen=True)
class Colour:
    """Matrix, range and siting as `tledge.preprocess.frames.Frame` has them; None: not known."""

    matrix: Matrix | None = None
    range: Range | None = None
    siting: Siting | None = None

    def filled(self, other: Colour) -> Colour:
        """Return it with what is missing taken from `other`."""
        return Colour(self.matrix or other.matrix, self.range or other.range, self.siting or other.siting)


UNSTATED = Colour()
# What a codec's standard says where a stream says nothing. H.264 (ITU-T H.264, E.2.1) and H.265 (E.3.1): a
# missing video_full_range_flag is 0, a missing chroma_sample_loc_type 0. MPEG-1, 2 and 4 (part 2): the levels
# of BT.601; chroma between the columns in MPEG-1, on the first column in the others. No matrix is taken from
# a standard: H.264 and H.265 leave it to the application, and encoders do not keep to what older ones imply.
STANDARDS = {
    "h264": Colour(range="limited", siting="left"),
    "hevc": Colour(range="limited", siting="left"),
    "mpeg2video": Colour(range="limited", siting="left"),
    "mpeg4": Colour(range="limited", siting="left"),
    "mpeg1video": Colour(range="limited", siting="centre"),
}


def settled(name: str, format: str, stated: Colour, stream: Colour, standard: Colour) -> Colour:
    """Return the colour of frames of `format`: what the caller stated, the stream says, its standard says.

    Args:
        name: what messages call the source.
        format: of `tledge.preprocess.frames`.
        stated: by the caller; it goes before all else.
        stream: what the stream itself says.
        standard: what the stream's standard says where the stream does not.

    Raises:
        InputError: something is said nowhere; the message names the flags that say it. Or grey levels are
            not 0 to 255, which the kernels do not take.
    """
    colour = stated.filled(stream).filled(standard)
    if format in YUV:
        wanted: tuple[str, ...] = ("matrix", "range", "siting")
    elif format == "grey":
        wanted = ("range",)
    else:
        return Colour()
    missing = [field for field in wanted if getattr(colour, field) is None]
    if missing:
        flags = ", ".join(f"--{field} {USUAL[field]}" for field in missing)
        raise InputError(
            f"{name} does not say the {' and '.join(missing)} of its {format} frames",
            hint=f"State what holds for it: {flags} (docs/sources.md says how to find out).",
            path=name,
        )
    if format == "grey":
        if colour.range != "full":
            raise InputError(
                f"{name} gives grey levels of limited range, which the kernels do not take",
                hint="Convert it to 4:2:0 first (ffmpeg -i IN -pix_fmt yuv420p OUT), "
                "or state --range full if its levels are 0 to 255.",
                path=name,
            )
        return Colour()
    return colour


def says(stated: Colour, stream: Colour, standard: Colour) -> str:
    """Return in words what holds for a stream and who said it: `bt709 (stream), limited (standard)...`."""
    words = []
    for field in dataclasses.fields(Colour):
        for who, colour in (("stated", stated), ("stream", stream), ("standard", standard)):
            value = getattr(colour, field.name)
            if value is not None:
                words.append(f"{value} ({who})")
                break
    return ", ".join(words)
