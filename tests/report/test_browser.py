"""The page in a real browser, from the disk, with the network off."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.report.browser import Browser, browser, executable
from tests.report.bundles import make
from tests.report.test_latency import run
from tests.report.test_page import HOSTILE
from tledge.report import gather, page

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.skipif(executable() is None, reason="no Chromium on this machine")

# Any text whose contrast with what is behind it is below WCAG's 4.5 (3 where it is large).
CONTRAST = """
(() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const over = (top, below) => [0, 1, 2].map(i => (top[3] ?? 1) * top[i] + (1 - (top[3] ?? 1)) * below[i]);
  const linear = value => value <= 10 ? value / 3294 : ((value / 255 + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const behind = element => element
    ? over(numbers(getComputedStyle(element).backgroundColor), behind(element.parentElement))
    : [255, 255, 255];
  const own = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  const found = new Set();
  for (const element of document.querySelectorAll('body *:not(.skip, title, desc)')) {
    if (!own(element)) continue;
    const style = getComputedStyle(element), drawn = element.closest('svg');
    const paper = behind(drawn ? document.body : element);
    const ink = over(numbers(drawn ? style.fill : style.color), paper);
    const [high, low] = [light(ink), light(paper)].sort((a, b) => b - a);
    const ratio = (high + .05) / (low + .05);
    if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5))
      found.add(`${element.tagName} ${element.getAttribute('class')} ${ratio.toFixed(2)}`);
  }
  return [...found];
})()
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    labels = [HOSTILE[0], HOSTILE[1], HOSTILE[-1]]
    out = folder / "page.html"
    made = make(folder / "digits.tledge", labels=labels, names=HOSTILE)
    benches = ({"runs": [run("fp32", 5.0), run("int8-cpu", 3.0, scenario=HOSTILE[0])]}, run("fp32", 4.0))
    out.write_text(page(gather(made), benches=benches), encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_offline_and_fits(tab: Browser, report: Path, width: int, scheme: str) -> None:
    tab.open(report, width, scheme)
    assert tab.complaints() == []
    asked = [url for url in tab.requested() if not url.startswith("data:")]
    assert set(asked) == {report.resolve().as_uri()}
    assert tab.value("document.documentElement.scrollWidth") <= width
    assert tab.value("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert tab.value("document.scripts.length") == 0
    picture = Image.open(io.BytesIO(tab.screenshot())).convert("L")
    dark = scheme == "dark"
    assert (picture.getpixel((2, 2)) < 64) == dark  # type: ignore[operator]
    assert len(picture.getcolors() or []) > 100


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_can_be_read(tab: Browser, report: Path, scheme: str) -> None:
    tab.open(report, 1400, scheme)
    assert tab.value(CONTRAST) == []
