"""Simulates how often two equally good models are found to differ, in tests whose rarest class has few lesions.

    python scripts/false_differences.py --tests 400

Draws test parts of lesions with two images, of which a given number is of the class df, and two models that make
equally many mistakes of their own. Counts how often `compare` declares a difference in accuracy, in any of the other
metrics, and in any metric at all, each of which may happen in 5% of the tests. Exits with 1 if one of them is more
frequent (beyond the error of the simulation). Also prints the highest shares of p-values below 5% of single metrics
before any correction, which claim nothing. It takes one core and about half a second for each test; `--delong 2000`
tests DeLong's test alone.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
import pandas as pd

CLASSES = ("df", "mel", "nv")
LESIONS = 300
LEVEL = 0.05


def answers(rng: np.random.Generator, rare: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Class and lesion of each image, (N,), and the probabilities of two equally good models, (N, 3) each."""
    label = np.repeat(np.r_[np.zeros(rare, int), 1 + (rng.random(LESIONS - rare) < 0.75)], 2)
    lesion = np.repeat(np.arange(LESIONS), 2)
    shared = 2.0 * np.eye(3)[label] + rng.normal(size=(LESIONS, 3))[lesion]
    scores = [np.exp(shared + rng.normal(size=shared.shape)) for _ in range(2)]
    return label, lesion, [each / each.sum(axis=1, keepdims=True) for each in scores]


def drawn(rng: np.random.Generator, rare: int) -> list[pd.DataFrame]:
    """Draws the predictions tables of two equally good models on the same images."""
    from lesion_exp.evaluation.predictions import predictions_table

    label, lesion, probs = answers(rng, rare)
    names = np.arange(len(label)).astype(str)
    rows = pd.DataFrame({"row_id": names, "image_id": names, "lesion_id": lesion.astype(str)})
    rows = rows.assign(label=np.array(CLASSES)[label], patient_id=None, age=np.nan, sex="unknown", site="unknown")
    return [predictions_table(rows.assign(source="drawn"), each, CLASSES) for each in probs]


def delong_levels(rare: int, tests: int) -> list[float]:
    """How often DeLong's test of each class's AUROC, and of their mean, has a p-value below 5%."""
    from lesion_exp.evaluation.delong import delong_p, placed_area

    rng, below = np.random.default_rng(rare), np.zeros(len(CLASSES) + 1)
    for _ in range(tests):
        label, lesion, probs = answers(rng, rare)
        found = []
        for place in range(len(CLASSES)):
            one, two = (placed_area(each[:, place], label == place, lesion, LESIONS) for each in probs)
            if one is not None and two is not None:
                found.append((one.auroc - two.auroc, one.influence - two.influence))
        differences, influences = zip(*found, strict=True)
        found.append((np.mean(differences), np.mean(influences, axis=0)))
        p_values = [delong_p(float(difference), influence) for difference, influence in found]
        below += [p_value is not None and p_value < LEVEL for p_value in p_values]
    return (below / tests).tolist()


def main() -> int:
    """Prints a row for each number of lesions of the rarest class."""
    parser = argparse.ArgumentParser(description="false differences between equally good models")
    parser.add_argument("--tests", type=int, default=400, help="simulated test parts for each number (400)")
    parser.add_argument("--rare", type=int, nargs="+", default=[5, 10, 20, 30], help="lesions of the rarest class")
    parser.add_argument("--draws", type=int, default=500, help="exchanges of answers in each (500)")
    parser.add_argument("--delong", type=int, default=0, help="only DeLong's test, on so many tests for each number")
    asked = parser.parse_args()
    if asked.delong:
        print("| lesions of df | AUROC of df | of mel | of nv | mean AUROC |\n|---|---|---|---|---|")
        for rare in asked.rare:
            levels = " | ".join(f"{share:.1%}" for share in delong_levels(rare, asked.delong))
            print(f"| {rare} | {levels} |", flush=True)
        return 0
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
        worst = max(worst, *families)
        cells = [*(f"{share:.1%}" for share in families), ", ".join(f"{n} {s:.1%}" for n, s in shares.items())]
        print(f"| {rare} | {' | '.join(cells)} |", flush=True)
    return int(worst > allowed)


if __name__ == "__main__":
    raise SystemExit(main())
