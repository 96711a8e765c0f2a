"""The live page in a real browser: an image is dropped, its label is seen, nothing is complained about."""

from __future__ import annotations

import base64
import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.report.browser import Browser, browser, executable
from tests.runtime import bundles
from tests.serving.test_serve import image, serving

pytestmark = pytest.mark.skipif(executable() is None, reason="no Chromium on this machine")
HOSTILE = "<img src=x onerror=document.title=1>"

DROP = """
(() => {
  const bytes = Uint8Array.from(atob('%s'), c => c.charCodeAt(0)), given = new DataTransfer();
  given.items.add(new File([bytes], '%s', {type: 'image/png'}));
  document.dispatchEvent(new DragEvent('drop', {dataTransfer: given}));
})()
"""


def shown(tab: Browser, name: str) -> str:
    """Return an element's text as soon as it has one."""
    for _ in range(1200):
        text = str(tab.value(f"document.getElementById('{name}').textContent")).strip()
        if text:
            return text
        time.sleep(0.05)
    raise AssertionError(f"{name} stayed empty")


def visit(tab: Browser, port: int, width: int, scheme: str) -> None:
    tab.ask(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
    )
    tab.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    tab.navigate(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1400, "light")])
def test_a_dropped_image_is_labelled(tmp_path: Path, width: int, scheme: str) -> None:
    bundle = bundles.make(tmp_path / "tiny.tledge").path
    with serving(bundle, "--backend", "onnxruntime") as (_, port), browser() as tab:
        visit(tab, port, width, scheme)
        assert "onnxruntime" in shown(tab, "model")
        tab.value(DROP % (base64.b64encode(image()).decode(), HOSTILE))
        assert shown(tab, "label") in bundles.LABELS
        assert "infer" in shown(tab, "times")
        assert tab.value("document.querySelectorAll('#top li').length") == len(bundles.LABELS)
        assert tab.value("document.title") == "tledge"
        assert tab.value("document.documentElement.scrollWidth <= innerWidth")
        assert tab.complaints() == []
        here = (f"http://127.0.0.1:{port}/", "blob:", "data:")
        assert all(url.startswith(here) for url in tab.requested())
        drawn = np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert("L"))
        assert (drawn.mean() > 128) == (scheme == "light")


def test_what_is_no_image_is_said(tmp_path: Path) -> None:
    bundle = bundles.make(tmp_path / "tiny.tledge").path
    with serving(bundle, "--backend", "onnxruntime") as (_, port), browser() as tab:
        visit(tab, port, 800, "light")
        tab.value(DROP % (base64.b64encode(b"no image").decode(), "a.png"))
        assert "image" in shown(tab, "error")


def test_the_policy_allows_nothing_from_elsewhere(tmp_path: Path) -> None:
    bundle = bundles.make(tmp_path / "tiny.tledge").path
    with serving(bundle, "--backend", "onnxruntime") as (_, port), browser() as tab:
        visit(tab, port, 800, "light")
        tab.value("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.2/x.png'}))")
        for _ in range(3000):
            if any("Content Security Policy" in said for said in tab.complaints()):
                return
            tab.value("0")
            time.sleep(0.02)
    raise AssertionError("a picture from elsewhere was let in")
