"""Two bundles side by side: the same images or none, in whatever order."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.report.bundles import make
from tests.report.markup import parse
from tledge.bundle import Bundle
from tledge.errors import InputError, UsageError
from tledge.report import compared, gather, markdown, page
from tledge.report.compare import aligned
from tledge.report.evidence import Answers, Evidence


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evidence, Evidence]:
    folder = tmp_path_factory.mktemp("bundles")
    first = make(
        folder / "a.tledge",
        settings={"backbone": "tledge:cnn", "lr": 0.1, "chosen": {"history": [{"loss": 1.0}]}},
    )
    second = make(
        folder / "b.tledge",
        wrong=2,
        settings={"backbone": "tledge:mlp", "lr": 0.1, "chosen": {"history": [{"loss": 2.0}]}},
    )
    return gather(first), gather(second)


def test_ledgers_settings_and_classes_are_compared(pair: tuple[Evidence, Evidence]) -> None:
    found = compared(*pair)
    one = found.stages[0]
    assert (one.stage, one.first and one.first.top1) == ("torch", pytest.approx(100 * 19 / 24))
    assert one.paired is not None
    assert (one.paired.lost, one.paired.gained, len(one.paired.flips)) == (0, 3, 3)
    assert [(d.name, d.first, d.second) for d in found.settings] == [
        ("finetune.backbone", "tledge:cnn", "tledge:mlp")
    ]
    assert found.stage == "fp32@onnxruntime"
    assert [(c.label, c.first, c.second) for c in found.classes] == [
        ("zero", 37.5, 75.0),
        ("one", 100.0, 100.0),
        ("two", 100.0, 100.0),
    ]


def test_images_in_another_order_are_brought_into_ours(pair: tuple[Evidence, Evidence]) -> None:
    first = pair[0]
    order = np.random.default_rng(0).permutation(len(first.images))
    shuffled = dataclasses.replace(
        first,
        images=tuple(first.images[i] for i in order),
        labels=first.labels[::-1],
        truth=first.truth[order],
    )
    answers = Answers("torch", first.answers["torch"].logits[order][:, ::-1])
    assert np.array_equal(aligned(first, shuffled, answers), first.answers["torch"].logits)


def test_other_images_or_classes_are_refused(tmp_path: Path, pair: tuple[Evidence, Evidence]) -> None:
    with pytest.raises(InputError, match="different images"):
        compared(pair[0], gather(make(tmp_path / "other.tledge", first=8)))
    with pytest.raises(UsageError):
        compared(*pair, stage="int8@onnxruntime")
    bare = Bundle.create(tmp_path / "bare.tledge")
    with bare.writing() as writer:
        writer.put("labels.txt", b"cat\ndog\n")
        writer.commit("import", settings={})
        bare = writer.finish()
    with pytest.raises(InputError, match="different classes"):
        compared(pair[0], gather(bare))


def test_the_page_and_the_table_show_both(pair: tuple[Evidence, Evidence]) -> None:
    found = compared(*pair)
    tree = parse(page(pair[0], compared=found, other=pair[1]))
    section = next(one for one in tree.all("section") if one.attributes["id"] == "compared")
    assert "+12.50" in section.text
    assert "tledge:mlp" in section.text
    text = markdown(pair[0], found, pair[1])
    assert "+12.50 (" in text
    assert len({line.count(" | ") for line in text.splitlines() if line.startswith("|")}) == 1


def test_markdown_shows_words_as_they_are(tmp_path: Path) -> None:
    made = make(tmp_path / "a|b.tledge", quantised="[x](y) <b> |`_")
    text = markdown(gather(made))
    assert r"\[x\]\(y\) \<b\> \|\`\_" in text
    assert r"### a\|b.tledge" in text
