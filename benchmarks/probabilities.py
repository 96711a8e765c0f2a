"""How far the probabilities of fine-tuned networks can be believed, with and without their temperature.

    python benchmarks/probabilities.py A.tledge B.tledge

The temperature is fitted on tune as `tledge finetune` fits it, and judged on the eval images: expected
calibration error in fifteen bins, and mean confidence less the accuracy, in points. The train images must be
where they were.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import tledge
from tledge.bundle import Bundle
from tledge.evaluation.stage import read_logits
from tledge.evaluation.temperature import fit
from tledge.report.evidence import Answers
from tledge.report.reliability import reliability

STAGE = "fp32@onnxruntime"


def main(paths: list[str]) -> None:
    """Print the table."""
    print("| bundle | tune | temperature | error without | with | overconfidence without | with |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for path in paths:
        bundle = Bundle.open(path)
        model = tledge.load(path, backend="onnxruntime", variant="fp32")
        tune = [file for file in bundle.train_files() if file.part == "tune"]
        images = [str(Path(bundle.train_root) / file.path) for file in tune]
        logits = np.concatenate([model.logits(model.preprocess(image)) for image in images])
        temperature = fit(logits, [file.label for file in tune])
        truth = np.array([image.label for image in bundle.eval_images()], np.intp)
        known = read_logits(bundle, STAGE)
        plain, scaled = (reliability(Answers(STAGE, known, t), truth) for t in (1.0, temperature))
        print(
            f"| {Path(path).stem} | {len(tune)} | {temperature:.2f} | {plain.error:.1f} | {scaled.error:.1f} "
            f"| {plain.overconfidence:+.1f} | {scaled.overconfidence:+.1f} |"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
