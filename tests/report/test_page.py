"""The page: sound, accessible, self-contained, the same every time, and never anybody else's markup."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.report.bundles import make
from tests.report.markup import Element, parse, skeleton
from tledge.bundle import Bundle
from tledge.errors import BundleError, MachineError, UsageError
from tledge.preprocess import Spec
from tledge.report import Evidence, gather, page
from tledge.report.evidence import Answers

pytest.importorskip("matplotlib")

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></title><script>",
    "\u202egpj.exe\u202c",
    "{{ 7 * 7 }}{% raw %}",
    "$x$ & \\frac{",
    "-->",
    "]]>",
    "a" * 5000,
]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return gather(make(tmp_path_factory.mktemp("bundles") / "digits.tledge"))


@pytest.fixture(scope="module")
def tree(evidence: Evidence) -> Element:
    return parse(page(evidence))


def test_headings_are_in_order_and_parts_are_landmarks(tree: Element) -> None:
    levels = [int(one.tag[1]) for one in tree.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    for tag in ("header", "nav", "main", "footer"):
        assert len(tree.all(tag)) == 1
    assert tree.all("html")[0].attributes["lang"] == "en"


def test_names_refer_to_what_is_there(tree: Element) -> None:
    names = [one.attributes["id"] for one in tree.all() if "id" in one.attributes]
    assert len(set(names)) == len(names)
    for one in tree.all():
        for name in one.attributes.get("aria-labelledby", "").split():
            assert name in names
        if one.tag in ("a", "use"):
            target = one.attributes.get("href") or one.attributes["xlink:href"]
            assert target[1:] in names
        for value in one.attributes.values():
            for name in re.findall(r"url\(#([^)]+)\)", value):
                assert name in names


def test_tables_have_captions_and_pictures_have_words(tree: Element) -> None:
    assert len(tree.all("table")) >= 5
    for table in tree.all("table"):
        assert table.children[0].tag == "caption"
        assert all(cell.attributes["scope"] in ("col", "row") for cell in table.all("th"))
    assert len(tree.all("img")) > 5
    assert all(one.attributes["alt"].startswith("An image of ") for one in tree.all("img"))
    assert len(tree.all("svg")) == 3
    for plot in tree.all("svg"):
        assert plot.attributes["role"] == "img"
        assert [one.tag for one in plot.children[:2]] == ["title", "desc"]
        assert all(one.text for one in plot.children[:2])


def test_the_page_asks_for_nothing_and_runs_nothing(evidence: Evidence, tree: Element) -> None:
    assert not tree.all("script", "link", "iframe", "object", "form", "base")
    for one in tree.all():
        assert not [name for name in one.attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "srcset"):
            assert one.attributes.get(name, "#").startswith(("#", "data:image/"))
    html = page(evidence)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert "default-src 'none'" in html


def test_plots_take_the_colours_of_the_page(evidence: Evidence) -> None:
    html = page(evidence)
    assert "#fe01" not in html
    assert "font-family: 'DejaVu" not in html
    plots = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    left = set(re.findall(r"#[0-9a-f]{6}\b", plots))
    assert not left, "colours that are the same on dark and on light"


def test_the_same_bundle_gives_the_same_page(evidence: Evidence) -> None:
    assert page(evidence) == page(gather(Bundle.open(evidence.bundle.path)))


def test_the_page_says_what_is_known(tree: Element) -> None:
    text = " ".join(tree.text.split())
    assert "5 of 24 answers are wrong" in text
    assert "3 answers changed: 3 right before and wrong now, 0 wrong before and right now" in text
    assert "No answer changed." in text
    ledger = next(one for one in tree.all("section") if one.attributes["id"] == "ledger")
    assert "79.17" in ledger.text
    assert "66.67" in ledger.text
    for command in ("tledge calibrate B", "tledge bench B", "tledge finetune DATA"):
        assert command in text


def test_another_stage_can_be_looked_at(evidence: Evidence) -> None:
    text = " ".join(parse(page(evidence, stage="int8-cpu@onnxruntime")).text.split())
    assert "8 of 24 answers are wrong" in text
    with pytest.raises(UsageError) as caught:
        page(evidence, stage="int8-cpu@onxruntime")
    assert "int8-cpu@onnxruntime" in caught.value.hint


def test_a_bundle_that_knows_nothing_says_how_to_learn(tmp_path: Path) -> None:
    made = Bundle.create(tmp_path / "new.tledge")
    with made.writing() as writer:
        writer.put("labels.txt", b"cat\ndog\n")
        writer.put("preprocess.json", Spec().to_json().encode())
        writer.commit("import", settings={})
        made = writer.finish()
    tree = parse(page(gather(made)))
    notes = [one.text for one in tree.all("p") if one.attributes.get("class") == "missing"]
    for command in ("evaluate B DATA", "finetune DATA", "calibrate B", "bench B", "evaluate B --variant"):
        assert any(command in note for note in notes)


def test_hostile_words_change_no_tag(tmp_path: Path, tree: Element) -> None:
    hostile = make(
        tmp_path / "<i>\"'&.tledge",
        labels=HOSTILE[:3],
        names=HOSTILE,
        settings={"backbone": HOSTILE[0], HOSTILE[1]: HOSTILE[2]},
    )
    assert skeleton(parse(page(gather(hostile)))) == skeleton(tree)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(words=st.lists(st.text(max_size=40) | st.sampled_from(HOSTILE), min_size=3, max_size=3))
def test_no_label_and_no_file_name_changes_a_tag(words: list[str], evidence: Evidence, tree: Element) -> None:
    named = [dataclasses.replace(image, name=words[index % 3]) for index, image in enumerate(evidence.images)]
    hostile = dataclasses.replace(evidence, labels=tuple(words), images=tuple(named))
    assert skeleton(parse(page(hostile))) == skeleton(tree)


def test_a_hostile_stage_is_only_a_word(tmp_path: Path, tree: Element) -> None:
    made = make(tmp_path / "a.tledge", quantised="<b onclick=x>&'\"@$alpha$")
    assert skeleton(parse(page(gather(made)))) == skeleton(tree)


def test_many_classes_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["tledge.report.page"]
    monkeypatch.setattr(module, "TABLE_CLASSES", 5)
    monkeypatch.setattr(module, "OPEN_CLASSES", 5)
    labels = [f"class {number}" for number in range(10)]
    tree = parse(page(gather(make(tmp_path / "ten.tledge", labels=labels))))
    assert not [one for one in tree.all("table") if one.attributes.get("class") == "confusion"]
    assert len(tree.all("svg")) == 4
    assert any(one.text.strip().startswith("The other 5 classes") for one in tree.all("details"))


def test_classes_that_never_came_are_left_out(evidence: Evidence) -> None:
    padded = {
        name: Answers(name, np.pad(one.logits, ((0, 0), (0, 2)), constant_values=-9.0))
        for name, one in evidence.answers.items()
    }
    more = dataclasses.replace(evidence, labels=(*evidence.labels, "four", "five"), answers=padded)
    text = " ".join(parse(page(more)).text.split())
    assert "2 of 5 classes have no image here" in text


def test_logits_that_do_not_fit_are_a_fault_of_the_bundle(tmp_path: Path) -> None:
    made = make(tmp_path / "a.tledge")
    with made.writing() as writer:
        writer.put("logits/torch.npy", b"\x93NUMPY no")
        made = writer.commit("evaluate", settings={})
    with pytest.raises(BundleError, match="torch"):
        gather(made)


@pytest.mark.parametrize("wrong", [{"top1": "<script>"}, {"stage": None}, {"flips": 1.5}, {"n": True}])
def test_a_ledger_of_other_types_is_a_fault_of_the_bundle(tmp_path: Path, wrong: dict[str, object]) -> None:
    made = make(tmp_path / "a.tledge")
    rows = json.loads(made.read("ledger.json"))
    rows["rows"][0] |= wrong
    with made.writing() as writer:
        writer.put("ledger.json", json.dumps(rows).encode())
        made = writer.commit("evaluate", settings={})
    with pytest.raises(BundleError, match="ledger"):
        gather(made)


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_a_missing_package_is_named(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MachineError) as caught:
        page(evidence)
    assert caught.value.hint == 'pip install "tledge[report]"'
