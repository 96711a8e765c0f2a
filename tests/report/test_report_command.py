"""`tledge report`: which files are written, what is said, and how it ends."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.report.bundles import make
from tests.report.markup import parse
from tledge.cli import cli
from tledge.cli.failure import guarded

pytest.importorskip("matplotlib")

STAGES = {
    "decode": {"p50": 1.0, "p90": 2.0, "p95": 2.0, "p99": 2.0, "p99.9": 2.0, "max": 2.5, "mean": 1.2},
    "upload": None,
    "infer": {"p50": 4.0, "p90": 5.0, "p95": 5.0, "p99": 5.0, "p99.9": 5.0, "max": 5.5, "mean": 4.2},
}
BENCH = {
    "valid": False,
    "reasons": ["another process was busy"],
    "scenario": "single-stream",
    "from": "jpeg",
    "variant": "int8-cpu",
    "backend": "onnxruntime",
    "latency_ms": STAGES["infer"],
    "throughput": 190.5,
    "stages_ms": STAGES,
    "cold_start_ms": 310.0,
    "peak_memory_mib": 99.0,
    "environment": {"cpu": "<b>fast</b>", "cores": 2},
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("bundles") / "digits.tledge").path


def run(*words: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = guarded(cli, [str(word) for word in words])
    return code, capsys.readouterr().out


def test_the_page_goes_beside_the_bundle(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run("report", bundle, "--json", capsys=capsys)
    answer = json.loads(out)
    page = bundle.with_suffix(".html")
    assert code == 0
    assert answer["bundle"] == str(bundle)
    assert Path(answer["report"]) == page
    assert answer["bytes"] == page.stat().st_size < 3e6
    parse(page.read_text(encoding="utf-8"))


def test_tables_alone_make_no_page(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "ledger.csv"
    code, out = run("report", bundle, "--csv", table, "--markdown", capsys=capsys)
    assert code == 0
    assert out.startswith("### digits.tledge\n\n| stage |")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [row["stage"] for row in rows] == ["torch", "fp32@onnxruntime", "int8-cpu@onnxruntime"]
    assert float(rows[0]["top1"]) == pytest.approx(100 * 19 / 24)
    assert rows[0]["parent"] == ""


def test_a_spreadsheet_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make(tmp_path / "a.tledge", quantised="=cmd@x")
    assert run("report", made.path, "--csv", tmp_path / "a.csv", capsys=capsys)[0] == 0
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[2]["stage"] == "'=cmd@x"


def test_a_bench_is_shown_with_its_verdict(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bench.json").write_text(json.dumps(BENCH))
    out = tmp_path / "page.html"
    code, _ = run("report", bundle, "-o", out, "--bench", tmp_path / "bench.json", capsys=capsys)
    assert code == 0
    latency = next(
        one for one in parse(out.read_text()).all("section") if one.attributes["id"] == "latency"
    ).text
    for word in ("NOT VALID: another process was busy", "190.5 images/s", "5.000", "<b>fast</b>"):
        assert word in latency


@pytest.mark.parametrize("text", ["", "[]", '{"valid": true}', '{"latency_ms": 1}', '{"runs": []}'])
def test_what_is_no_bench_is_exit_4(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "bench.json").write_text(text)
    out = tmp_path / "page.html"
    code, said = run("report", bundle, "-o", out, "--bench", tmp_path / "bench.json", "--json", capsys=capsys)
    assert code == 4
    assert "tledge bench" in json.loads(said)["error"]["hint"]
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["-o", "BUNDLE/manifest.json"], 2),
        (["--csv", "BUNDLE/../digits.tledge/ledger.csv"], 2),
        (["--stage", "int8"], 2),
        (["--csv", "x.csv", "--bench", "x.json"], 2),
        (["-o", "BUNDLE.missing/x/page.html", "--compare", "nowhere"], 4),
        (["-o", "."], 4),
    ],
)
def test_bad_words(
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = (bundle / "manifest.json").read_bytes()
    filled = [word.replace("BUNDLE", str(bundle)) for word in words]
    assert run("report", bundle, *filled, capsys=capsys)[0] == code
    assert (bundle / "manifest.json").read_bytes() == before


def test_a_second_bundle_of_other_images_is_exit_4(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make(tmp_path / "other.tledge", first=8).path
    out = tmp_path / "page.html"
    assert run("report", bundle, "-o", out, "--compare", other, capsys=capsys)[0] == 4
    assert not out.exists()
