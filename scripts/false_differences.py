"""How often two equally good models are told apart, on simulated tests whose rarest class has few lesions.

    python scripts/false_differences.py --tests 400

Draws test parts of lesions with two images, of which a given number is of the class df, and two models that make
equally many mistakes of their own. Counts how often `compare` declares a difference in accuracy, in any of the other
metrics, and in any metric at all, and how often a single metric alone has a p-value below 5%; each may happen in 5% of
the tests. 1 where one of them is more frequent (beyond the error of the simulation). One core, about half a second a
test.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
import pandas as pd

CLASSES = ("df", "mel", "nv")
LESIONS = 300
LEVEL = 0.05


def drawn(rng: np.random.Generator, rare: int) -> list[pd.DataFrame]:
    """The predictions tables of two equally good models on the same images."""
    from lesion_exp.evaluation.predictions import predictions_table

    label = np.repeat(np.r_[np.zeros(rare, int), 1 + (rng.random(LESIONS - rare) < 0.75)], 2)
    lesion = np.repeat(np.arange(LESIONS), 2)
    shared = 2.0 * np.eye(3)[label] + rng.normal(size=(LESIONS, 3))[lesion]
    names = np.arange(len(label)).astype(str)
    rows = pd.DataFrame({"row_id": names, "image_id": names, "lesion_id": lesion.astype(str)})
    rows = rows.assign(label=np.array(CLASSES)[label], patient_id=None, age=np.nan, sex="unknown", site="unknown")
    tables = []
    for _ in range(2):
        scores = np.exp(shared + rng.normal(size=shared.shape))
        probs = scores / scores.sum(axis=1, keepdims=True)
        tables.append(predictions_table(rows.assign(source="drawn"), probs, CLASSES))
    return tables


def main() -> int:
    """Prints a row for each number of lesions of the rarest class."""
    parser = argparse.ArgumentParser(description="false differences between equally good models")
    parser.add_argument("--tests", type=int, default=400, help="simulated test parts for each number (400)")
    parser.add_argument("--rare", type=int, nargs="+", default=[5, 10, 20, 30], help="lesions of the rarest class")
    parser.add_argument("--draws", type=int, default=500, help="exchanges of answers in each (500)")
    asked = parser.parse_args()
    from lesion_exp.evaluation.comparison import PRIMARY, SIGNIFICANT, compared

    allowed = LEVEL + 2 * (LEVEL * (1 - LEVEL) / asked.tests) ** 0.5
    worst = 0.0
    print(f"{asked.tests} tests of {LESIONS} lesions; a difference is declared in")
    print(
        "| lesions of df | accuracy | any other metric | any at all | single metric, uncorrected: the highest three |"
    )
    print("|---|---|---|---|---|")
    for rare in asked.rare:
        rng = np.random.default_rng(rare)
        declared, alone = Counter[str](), Counter[str]()
        for number in range(asked.tests):
            groups = {"A": [0], "B": [1]}
            (pair,) = compared(drawn(rng, rare), groups, [("A", "B")], draws=asked.draws, seed=number).pairs
            found = pair.differences
            declared[PRIMARY] += found[PRIMARY].significant
            declared["other"] += any(each.significant for name, each in found.items() if name != PRIMARY)
            declared["any"] += any(each.significant for each in found.values())
            alone.update(name for name, each in found.items() if each.p is not None and each.p < SIGNIFICANT)
        shares = {name: count / asked.tests for name, count in alone.most_common(3)}
        families = [declared[name] / asked.tests for name in (PRIMARY, "other", "any")]
        worst = max(worst, *families, *shares.values())
        cells = [*(f"{share:.1%}" for share in families), ", ".join(f"{n} {s:.1%}" for n, s in shares.items())]
        print(f"| {rare} | {' | '.join(cells)} |", flush=True)
    return int(worst > allowed)


if __name__ == "__main__":
    raise SystemExit(main())
