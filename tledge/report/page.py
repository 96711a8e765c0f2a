"""The page: everything that the report says, put into the templates.

The templates escape whatever they are given; only plots, whose markup is made here, pass as they are. The
page loads nothing and runs nothing, and its own policy forbids it to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tledge import __version__
from tledge.errors import MachineError
from tledge.evaluation.card import read as read_card
from tledge.evaluation.classes import balanced, matrix
from tledge.report import plots, tables
from tledge.report.calibration import calibration
from tledge.report.compare import Compared
from tledge.report.confusion import pairs
from tledge.report.errors import worst_errors
from tledge.report.evidence import Answers, Evidence
from tledge.report.gallery import MOST_ERRORS, MOST_FLIPS, Gallery, flips
from tledge.report.latency import latency
from tledge.report.layers import layers
from tledge.report.reliability import reliability
from tledge.report.text import clean
from tledge.report.training import suspects, training

HERE = Path(__file__).parent
TABLE_CLASSES = 20  # a confusion matrix of more is drawn, not written: nobody reads 2000 cells
OPEN_CLASSES = 30  # rows of the classes' table that are shown at once
MOST_PAIRS = 10


def page(
    evidence: Evidence,
    *,
    stage: str | None = None,
    benches: tuple[dict[str, Any], ...] = (),
    compared: Compared | None = None,
    other: Evidence | None = None,
) -> str:
    """Return the HTML of the report: the same for the same bundle, byte for byte.

    Args:
        evidence: The bundle.
        stage: Whose confusion, classes, errors and reliability are shown; None: fp32 on ONNX Runtime.
        benches: Documents of `tledge bench --json`.
        compared: The comparison with `other`, if there is one.
        other: The second bundle.

    Raises:
        UsageError: the bundle keeps no answers of `stage`.
        MachineError: matplotlib or Jinja2 is missing.
    """
    environment = _templates()
    gallery = Gallery(evidence)
    answers = evidence.subject(stage)
    bundle = evidence.bundle
    words: dict[str, Any] = {
        "version": __version__,
        "style": (HERE / "style.css").read_text(encoding="utf-8"),
        "name": clean(bundle.path.name),
        "facts": tables.facts(evidence),
        "card": read_card(bundle) if bundle.has("preprocess.json") else "",
        "ledger": tables.lines(evidence),
        "rows": evidence.rows,
        "interval_plot": plots.intervals(evidence.rows) if evidence.rows else "",
        "flips": [found for row in evidence.rows if (found := flips(gallery, row)) is not None],
        "most_flips": MOST_FLIPS,
        "has_images": bool(evidence.images),
        "subject": None if answers is None else clean(answers.stage),
        "training": training(bundle),
        "suspects": suspects(bundle),
        "calibration": calibration(bundle),
        "layers": layers(bundle),
        "latency": latency(evidence, benches),
        "parts": tables.parts(bundle),
        "steps": tables.steps(bundle),
        "compared": compared,
        "other": None if other is None else clean(other.bundle.path.name),
    }
    if answers is not None:
        words |= _about(evidence, answers, gallery)
    return str(environment.get_template("page.html").render(words))


def _about(evidence: Evidence, answers: Answers, gallery: Gallery) -> dict[str, Any]:
    """Return what is said about one stage's answers."""
    counts = matrix(evidence.truth, answers.best, len(evidence.labels))
    found = balanced(answers.logits, evidence.truth)
    scores = found.classes
    measured = reliability(answers, evidence.truth)
    drawn = len(counts) > TABLE_CLASSES
    met = [score for score in scores if score.images or score.answered]
    weakest = sorted(met, key=lambda score: (101.0 if score.f1 is None else score.f1, score.index))
    return {
        "labels": [clean(label) for label in evidence.labels],
        "counts": None if drawn else counts.tolist(),
        "confusion_plot": plots.heat_map(counts) if drawn else "",
        "pairs": pairs(counts, MOST_PAIRS),
        "balanced": found,
        "scores": weakest,
        "unmet": len(scores) - len(met),
        "open_classes": OPEN_CLASSES,
        "total": len(evidence.truth),
        "errors": worst_errors(gallery, answers),
        "most_errors": MOST_ERRORS,
        "reliability": measured,
        "reliability_plot": plots.reliability_diagram(measured),
        "confidence_plot": plots.confidence_histogram(answers, evidence.truth),
        "all_reliability": [
            (clean(name), reliability(one, evidence.truth)) for name, one in evidence.answers.items()
        ],
    }


def _templates() -> Any:
    try:
        import jinja2
        import markupsafe
    except ImportError as error:
        raise MachineError(
            "the report's page needs the package Jinja2", hint='pip install "tledge[report]"'
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Our own style sheet and plots, made from cleaned words: the only markup that is not a template.
    environment.filters["markup"] = markupsafe.Markup
    environment.filters["signed"] = signed
    environment.filters["percent"] = lambda number, digits=2: (
        "–" if number is None else f"{number:.{digits}f}"
    )
    return environment


def signed(number: float, digits: int = 2) -> str:
    """Return a change with its sign; what rounds to nothing has none."""
    text = f"{abs(number):.{digits}f}"
    return text if not float(text) else ("+" if number > 0 else "−") + text
