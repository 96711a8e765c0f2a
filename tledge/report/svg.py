"""A matplotlib figure as SVG that can stand inside a page: it takes the page's fonts and colours.

A figure is drawn in a few stand-in colours, which become CSS variables here, so that the same SVG is right on
a dark and on a light page. Text stays text. Ids are made the figure's own, since a page is one document, and
matplotlib's style sheet, which would hold for the whole page, is left out.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Stand-in colour: CSS variable of style.css. Unlike any colour that matplotlib would choose by itself.
INK, FAINT, ACCENT, SECOND, GOOD, BAD, PAPER = (f"#fe01{number:02x}" for number in range(1, 8))
VARIABLES = {
    INK: "var(--ink)",
    FAINT: "var(--line-strong)",
    ACCENT: "var(--accent)",
    SECOND: "var(--second)",
    GOOD: "var(--good)",
    BAD: "var(--bad)",
    PAPER: "var(--paper)",
}
SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)


def render(figure: Figure, key: str, title: str, description: str) -> str:
    """Return the figure as an SVG element.

    Args:
        figure: Drawn in the stand-in colours.
        key: Unlike that of every other figure of the page; a plain word.
        title: What the figure is, for those who do not see it.
        description: What it shows, in a sentence.
    """
    import matplotlib as mpl

    file = io.BytesIO()
    # Ids are hashes of content and salt: without a fixed salt two reports of one bundle would differ.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(file.getvalue())
    for child in [element for element in root if element.tag == f"{{{SVG}}}metadata"]:
        root.remove(child)
    for holder in [element for element in root.iter() if element.find(f"{{{SVG}}}style") is not None]:
        for style in holder.findall(f"{{{SVG}}}style"):
            holder.remove(style)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    _own_ids(root, key)
    _take_colours(root)
    root.set("role", "img")
    root.set("aria-labelledby", f"{key}-title {key}-description")
    root.set("class", "plot")
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(
            f"{{{SVG}}}{tag}", {"id": f"{key}-{'title' if tag == 'title' else 'description'}"}
        )
        element.text = text
        root.insert(position, element)
    return re.sub(r"\n\s*", "\n", ElementTree.tostring(root, encoding="unicode"))


def _own_ids(root: ElementTree.Element, key: str) -> None:
    """Prefix the ids that something refers to, and drop the others."""
    text = ElementTree.tostring(root, encoding="unicode")
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in used:
            element.set("id", f"{key}-{name}")
        for attribute, value in element.attrib.items():
            if attribute == f"{{{XLINK}}}href" and value.startswith("#"):
                element.set(attribute, f"#{key}-{value[1:]}")
            else:
                element.set(attribute, re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", value))


def _take_colours(root: ElementTree.Element) -> None:
    """Put the page's variables in the place of the stand-ins, and leave fonts to the page."""
    for element in root.iter():
        style = element.get("style")
        if style:
            style = re.sub(r"font:\s*(?:\w+\s+)*?([\d.]+px)[^;]*", r"font-size: \1", style)
            style = re.sub(r"font-family:[^;]*;?\s*", "", style)
            for stand_in, variable in VARIABLES.items():
                style = style.replace(stand_in, variable)
            element.set("style", style)
