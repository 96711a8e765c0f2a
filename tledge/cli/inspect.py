"""`tledge inspect`: what a bundle holds, and whether it is still what was written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tledge.bundle import Bundle
from tledge.cli.options import FilePath, Output, columns, ledger, subcommand
from tledge.errors import BundleError
from tledge.preprocess.words import in_words

if TYPE_CHECKING:
    from tledge.quantization.layers import LayerView


@subcommand("inspect")
@click.argument("bundle", type=FilePath)
@click.option("--verify", is_flag=True, help="Hash every file and compare.")
@click.option("--layers", is_flag=True, help="Show each layer's precision, range and noise; engines' types.")
@click.option("--suspects", is_flag=True, help="Show the training images whose labels may be wrong.")
@click.option("--card", is_flag=True, help="Print the model card, Markdown.")
def command(output: Output, bundle: Path, verify: bool, layers: bool, suspects: bool, card: bool) -> None:
    """Show what BUNDLE holds: files, settings, ledger. --verify checks every hash (exit 6 if one differs)."""
    opened = Bundle.open(bundle)
    problems = opened.problems() if verify else ()
    if problems:
        raise BundleError(
            f"{len(problems)} of {len(opened.names)} files are not what was written: " + "; ".join(problems),
            hint="Restore the bundle from a copy, or make it anew.",
            path=bundle,
        )
    if layers:
        output.show(*_layers(opened))
        return
    if card:
        from tledge.evaluation.card import read

        text = read(opened)
        output.show({"bundle": str(bundle), "card": text}, text.rstrip("\n"))
        return
    if suspects:
        output.show(*_suspects(opened))
        return
    document = {
        "bundle": str(bundle),
        "state": opened.state,
        "verified": verify,
        "labels": list(opened.labels) if opened.has("labels.txt") else [],
        "preprocessing": json.loads(opened.spec.to_json()) if opened.has("preprocess.json") else None,
        "variants": list(opened.variants),
        "files": {name: asdict(opened.manifest.files[name]) for name in opened.names},
        "settings": opened.settings,
        "ledger": [row.as_dict() for row in opened.ledger],
        "lineage": list(opened.lineage),
    }
    output.show(document, _text(opened, verified=verify))


def _layers(bundle: Bundle) -> tuple[dict[str, Any], str]:
    from tledge.cli.build_engine import layer_report
    from tledge.quantization.layers import describe
    from tledge.runtime.engine_manifest import engines

    found, variants = engines(bundle), describe(bundle)
    document = {
        "bundle": str(bundle.path),
        "layers": {name: [asdict(layer) for layer in layers] for name, layers in variants.items()},
        "engines": [engine.as_dict() for engine in found],
    }
    blocks = [f"{name}\n{_table(layers)}" for name, layers in variants.items()]
    blocks += ["\n".join(layer_report(engine)) for engine in found]
    if not found:
        blocks.append(f"{bundle.path} holds no engines; `tledge build-engine {bundle.path}` builds one")
    return document, "\n\n".join(blocks)


def _table(layers: Sequence[LayerView]) -> str:
    def cell(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return columns(
        ("layer", "operator", "precision", "low", "high", "clipped %", "SQNR dB", "loss %"),
        [
            (
                layer.node,
                layer.op,
                layer.precision if layer.rule is None else f"{layer.precision} ({layer.rule})",
                cell(layer.low, ".4g"),
                cell(layer.high, ".4g"),
                cell(layer.clipped, ".4f"),
                cell(layer.sqnr, ".1f"),
                cell(layer.loss, ".1f"),
            )
            for layer in layers
        ],
    )


def _suspects(bundle: Bundle) -> tuple[dict[str, Any], str]:
    found, labels = bundle.suspects(), bundle.labels
    if not bundle.has("suspects.json"):
        raise BundleError(
            f"nobody looked for wrong labels when {bundle.path} was made",
            hint="`tledge finetune` does, with a pretrained network or one of --from; not with --qat.",
            path=bundle.path,
        )
    document = {
        "bundle": str(bundle.path),
        "root": bundle.train_root,
        "images": len(bundle.train_files()),
        "suspects": [
            {
                "file": one.path,
                "label": labels[one.label],
                "given": one.given,
                "suggested": labels[one.suggested],
                "probability": one.probability,
            }
            for one in found
        ],
    }
    rows = [
        (
            one.path,
            labels[one.label],
            f"{100 * one.given:.1f}",
            labels[one.suggested],
            f"{100 * one.probability:.1f}",
        )
        for one in found
    ]
    table = columns(("file", "labelled", "%", "looks like", "%"), rows)
    head = f"{len(found)} of {document['images']} labels may be wrong; the files are in {bundle.train_root}"
    return document, f"{head}\n\n{table}" if found else head


def _text(bundle: Bundle, *, verified: bool) -> str:
    files = [name for name in bundle.names if not name.startswith(("eval/", "logits/", "flips/"))]
    images = bundle.eval_images()
    total = sum(entry.bytes for entry in bundle.manifest.files.values())
    labels = bundle.labels if bundle.has("labels.txt") else ()
    shown = ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")
    checked = "every hash is right" if verified else "sizes are right (--verify checks the hashes)"
    lines = [
        f"{bundle.path}: {bundle.state}, {len(bundle.names)} files, {total / 2**20:.1f} MiB; {checked}",
        f"labels ({len(labels)}): {shown}",
        f"preprocessing: {in_words(bundle.spec) if bundle.has('preprocess.json') else 'none'}",
        f"eval images: {len(images)}; train images on record: {len(bundle.train_files())}",
        "",
        columns(
            ("file", "KiB", "sha256"),
            [(n, f"{bundle.manifest.files[n].bytes / 1024:.1f}", bundle.sha256(n)[:12]) for n in files],
        ),
        "",
        "made by: " + ", ".join(f"{entry['stage']} ({entry['seconds']:.1f} s)" for entry in bundle.lineage),
        "",
        ledger(bundle.ledger),
    ]
    return "\n".join(lines)
