"""The worst errors with what the network looked at, and labels that may be wrong, as the page shows them."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.report.bundles import make
from tests.report.markup import parse
from tests.report.test_page import HOSTILE
from tledge.bundle import Bundle
from tledge.bundle.records import Suspect, encode
from tledge.evaluation import attention
from tledge.evaluation.attention import Attention, WorstError
from tledge.report import gather, page
from tledge.report.errors import worst_errors
from tledge.report.gallery import Gallery

pytest.importorskip("matplotlib")


def with_errors(place: Path, maps: bool, answer: int | None = None) -> Bundle:
    """Return the bundle of `make`, whose first five images, zeros, are answered "one", with their maps."""
    bundle = make(place)
    errors = tuple(
        WorstError(image.file, image.name, image.label, 1 if answer is None else answer, 0.9)
        for image in bundle.eval_images()[:5]
    )
    drawn = np.zeros((5, 2, 2), np.uint8)
    drawn[:, 0, 1] = 255  # the top right
    with bundle.writing() as writer:
        attention.put(writer, Attention("body.3", errors, drawn if maps else None))
        return writer.commit("finetune")


def test_red_lies_where_the_map_is_bright(tmp_path: Path) -> None:
    evidence = gather(with_errors(tmp_path / "a.tledge", maps=True))
    answers = evidence.subject()
    assert answers is not None
    found = worst_errors(Gallery(evidence), answers)
    assert (found.wrong, found.mapped, found.without_maps) == (5, 5, "")
    data = base64.b64decode(found.pictures[0].seen.partition(",")[2])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    redness = pixels[..., 0] - pixels[..., 2]
    height, width = redness.shape
    assert redness[: height // 4, -width // 4 :].mean() > 60
    assert redness[-height // 4 :, : width // 4].mean() < 20
    tree = parse(page(evidence))
    words = [one.attributes["alt"] for one in tree.all("img")]
    assert sum("red where it saw one" in word for word in words) == 5


def test_a_map_of_another_answer_is_not_shown(tmp_path: Path) -> None:
    evidence = gather(with_errors(tmp_path / "a.tledge", maps=True, answer=2))
    answers = evidence.subject()
    assert answers is not None
    assert worst_errors(Gallery(evidence), answers).mapped == 0


def test_a_network_without_maps_says_so(tmp_path: Path) -> None:
    html = page(gather(with_errors(tmp_path / "a.tledge", maps=False)))
    assert "Where the network looked is not shown: body.3" in html
    assert "they are made when a network is trained" in page(gather(make(tmp_path / "b.tledge")))


def test_suspected_labels_are_named_whatever_they_are_called(tmp_path: Path) -> None:
    bundle = make(tmp_path / "a.tledge", labels=HOSTILE[:3])
    rows = [Suspect(HOSTILE[number % len(HOSTILE)], 0, 0.1, 2, 0.85) for number in range(25)]
    with bundle.writing() as writer:
        writer.put("suspects.json", encode(rows))
        bundle = writer.commit("finetune")
    tree = parse(page(gather(bundle)))
    (table,) = [one for one in tree.all("table") if "may be wrong" in one.children[0].text]
    assert "25 labels of training images may be wrong; the first 20" in table.text
    assert len(table.all("tr")) == 21
    assert not tree.all("script")
