"""Simulates how often the 95% intervals contain the true value, in tests whose lesions have several images.

    python scripts/coverage.py --tests 1000

Draws test parts whose lesions have one to four images that share most of their difficulty, and counts how often an
interval holds the value of the population: of single proportions for many sizes and shares, then of each metric in
three settings (many lesions, few lesions, a network that is nearly always right). Rows outside 93 to 97% are marked; a
proportion of few lesions near 0 or 1 has so few possible results that no interval can come nearer. One core, some
minutes.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from scipy import stats

CLASSES = ("bkl", "mel", "nv")
SHARES = (0.25, 0.15, 0.60)
METRICS = (
    "accuracy", "balanced_accuracy", "f1_macro", "auroc_macro", "recall/mel", "precision/mel", "specificity/mel",
    "f1/mel", "auroc/mel", "average_precision/mel", "sensitivity_at_95_specificity/mel", "brier", "nll", "ece",
    "ece_classwise",
)  # fmt: skip
SETTINGS = {"400 lesions": (400, 1.5), "60 lesions": (60, 1.5), "nearly always right": (400, 4.5)}
"""Lesions, and how far the score of the true class is raised."""
PROPORTIONS = (0.0, 0.02, 0.1, 0.5, 0.98, 1.0)
LESIONS = (5, 10, 20, 50, 200, 1000)
SHARED = 0.8
"""Part of the variance of an image's difficulty that is its lesion's."""


def drawn(rng: np.random.Generator, lesions: int, skill: float) -> pd.DataFrame:
    """Draws a predictions table with the given number of lesions."""
    from lesion_exp.evaluation.predictions import predictions_table

    images = rng.integers(1, 5, lesions)
    lesion = np.repeat(np.arange(lesions), images)
    label = rng.choice(len(CLASSES), lesions, p=SHARES)[lesion]
    noise = np.sqrt(SHARED) * rng.normal(size=(lesions, 3))[lesion]
    noise += np.sqrt(1 - SHARED) * rng.normal(size=(len(lesion), 3))
    scores = np.exp(skill * np.eye(3)[label] + noise)
    names = np.arange(len(lesion)).astype(str)
    rows = pd.DataFrame({"row_id": names, "image_id": names, "lesion_id": lesion.astype(str)})
    rows = rows.assign(label=np.array(CLASSES)[label], patient_id=None, age=np.nan, sex="unknown", site="unknown")
    return predictions_table(rows.assign(source="drawn"), scores / scores.sum(axis=1, keepdims=True), CLASSES)


def right_images(rng: np.random.Generator, share: float, lesions: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws the number of right images and of all images of each lesion, for a given share of right images."""
    images = rng.integers(1, 5, lesions)
    noise = np.sqrt(SHARED) * rng.normal(size=(lesions, 1)) + np.sqrt(1 - SHARED) * rng.normal(size=(lesions, 4))
    right = (noise < stats.norm.ppf(share)) & (np.arange(4) < images[:, None])
    return right.sum(axis=1).astype(float), images.astype(float)


def of_proportions(tests: int) -> list[tuple[float, list[float]]]:
    """The coverage of each proportion for each number of lesions."""
    from lesion_exp.evaluation.limits import proportion_limits

    rows = []
    for share in PROPORTIONS:
        rng, found = np.random.default_rng(0), []
        for lesions in LESIONS:
            limits = [proportion_limits(*right_images(rng, share, lesions)) for _ in range(tests)]
            found.append(float(np.mean([each.low <= share <= each.high for each in limits])))
        rows.append((share, found))
    return rows


def of_metrics(lesions: int, skill: float, tests: int, draws: int) -> list[tuple[str, float, float]]:
    """Each metric with its value in the population and the coverage of its interval."""
    from lesion_exp.evaluation.intervals import intervals
    from lesion_exp.evaluation.metrics import metrics

    rng = np.random.default_rng(0)
    truth = metrics(drawn(rng, 200_000, skill))
    held = dict.fromkeys(METRICS, 0)
    for number in range(tests):
        found = intervals(drawn(rng, lesions, skill), METRICS, draws, seed=number)
        for name in METRICS:
            held[name] += name in found and found[name][0] <= truth[name] <= found[name][1]
    return [(name, truth[name], held[name] / tests) for name in METRICS]


def mark(coverage: float) -> str:
    return "" if 0.93 <= coverage <= 0.97 else " *"


def main() -> int:
    """Prints both tables; returns 1 if an interval of a metric contains the true value in fewer than 90% of tests."""
    parser = argparse.ArgumentParser(description="coverage of the intervals")
    parser.add_argument("--tests", type=int, default=1000, help="simulated test parts of each setting (1000)")
    parser.add_argument("--proportions", type=int, default=4000, help="simulated test parts of each proportion (4000)")
    parser.add_argument("--draws", type=int, default=300, help="of each bootstrap (300)")
    asked = parser.parse_args()
    print(f"{asked.proportions} test parts of each proportion, {asked.tests} of each setting; * outside 93 to 97%")
    print("| proportion | " + " | ".join(f"{lesions:,} lesions" for lesions in LESIONS) + " |")
    print("|---" * (1 + len(LESIONS)) + "|")
    for share, found in of_proportions(asked.proportions):
        print(f"| {share:g} | " + " | ".join(f"{each:.1%}{mark(each)}" for each in found) + " |")
    lowest = 1.0
    for name, (lesions, skill) in SETTINGS.items():
        print(f"\n{name}\n\n| metric | truth | holds it |\n|---|---|---|")
        for metric, truth, coverage in of_metrics(lesions, skill, asked.tests, asked.draws):
            print(f"| {metric} | {truth:.3f} | {coverage:.1%}{mark(coverage)} |")
            lowest = min(lowest, coverage)
    return int(lowest < 0.9)


if __name__ == "__main__":
    raise SystemExit(main())
