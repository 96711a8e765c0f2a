"""How many of the labels that were changed are on the list of suspects, and how much of the list they are.

    python benchmarks/suspects.py

scikit-learn's 1797 handwritten digits, pixels as features; a share of the labels is changed at random, three
times. The peer names every image that the same held-out probe answers otherwise than its label.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from tledge.training import suspects

STRENGTH = 0.01
SHARES = (0.0, 0.02, 0.05, 0.1)
SEEDS = (0, 1, 2)


def main() -> None:
    """Print the table, means of the draws."""
    data = load_digits()
    features = (data.data / 16).astype(np.float32)
    print("| labels changed | named | precision | recall | peer: named | precision | recall |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for share in SHARES:
        rows = []
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            labels = data.target.astype(np.int64)
            changed = rng.permutation(len(labels))[: round(share * len(labels))]
            labels[changed] = (labels[changed] + rng.integers(1, 10, len(changed))) % 10
            ours = {one.index for one in suspects.find(features, labels, 10, STRENGTH)}
            answers = suspects.held_out(features, labels, 10, STRENGTH).argmax(axis=1)
            row: list[float] = []
            for named in (ours, set(np.flatnonzero(answers != labels).tolist())):
                hits = len(named & set(changed.tolist()))
                row += [len(named), 100 * hits / max(1, len(named)), 100 * hits / max(1, len(changed))]
            rows.append(row)
        cells = [f"{value:.0f}" for value in np.mean(rows, axis=0)]
        print(f"| {100 * share:.0f} % | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
