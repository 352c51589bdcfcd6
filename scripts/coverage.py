"""How often the 95% intervals hold the truth, on simulated tests whose lesions have several images.

    python scripts/coverage.py --tests 1000

Draws a population of lesions with one to four images that share most of their difficulty, takes from it one test part
after another, and counts for each metric how often its interval holds the population's value: once with the bootstrap
over lesions that this package uses, once over single images, which takes images of a lesion for independent. A truth
that lies outside 93 to 97% of the former is marked. One core, some minutes.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

CLASSES = ("bkl", "mel", "nv")
SHARES = (0.25, 0.15, 0.60)
METRICS = (
    "accuracy", "balanced_accuracy", "f1_macro", "auroc_macro", "recall/mel", "precision/mel", "specificity/mel",
    "auroc/mel", "brier", "nll",
)  # fmt: skip
SHARED = 0.8
"""Part of the variance of an image's difficulty that is its lesion's."""


def drawn(rng: np.random.Generator, lesions: int) -> pd.DataFrame:
    """A predictions table of so many lesions."""
    from lesion_exp.evaluation.predictions import predictions_table

    images = rng.integers(1, 5, lesions)
    lesion = np.repeat(np.arange(lesions), images)
    label = rng.choice(len(CLASSES), lesions, p=SHARES)[lesion]
    noise = np.sqrt(SHARED) * rng.normal(size=(lesions, 3))[lesion]
    noise += np.sqrt(1 - SHARED) * rng.normal(size=(len(lesion), 3))
    scores = np.exp(1.5 * np.eye(3)[label] + noise)
    names = np.arange(len(lesion)).astype(str)
    rows = pd.DataFrame(
        {
            "row_id": names,
            "image_id": names,
            "lesion_id": lesion.astype(str),
            "patient_id": None,
            "label": np.array(CLASSES)[label],
            "age": np.nan,
            "sex": "unknown",
            "site": "unknown",
            "source": "drawn",
        }
    )
    return predictions_table(rows, scores / scores.sum(axis=1, keepdims=True), CLASSES)


def main() -> int:
    """Prints a row a metric; 1 where one is covered too rarely or too often."""
    parser = argparse.ArgumentParser(description="coverage of the bootstrap's intervals")
    parser.add_argument("--tests", type=int, default=1000, help="simulated test parts (1000)")
    parser.add_argument("--lesions", type=int, default=400, help="in each of them (400)")
    parser.add_argument("--draws", type=int, default=500, help="of each bootstrap (500)")
    asked = parser.parse_args()
    from lesion_exp.evaluation.intervals import intervals
    from lesion_exp.evaluation.metrics import metrics

    rng = np.random.default_rng(0)
    truth = metrics(drawn(rng, 300_000))
    held = {unit: dict.fromkeys(METRICS, 0) for unit in ("lesions", "images")}
    for number in range(asked.tests):
        table = drawn(rng, asked.lesions)
        for unit, rows in (("lesions", table), ("images", table.assign(lesion_id=None))):
            found = intervals(rows, METRICS, asked.draws, seed=number)
            for name in METRICS:
                held[unit][name] += found[name][0] <= truth[name] <= found[name][1]
    print(f"{asked.tests} test parts of {asked.lesions} lesions; the interval holds the truth, drawing")
    print(f"{'metric':<20} {'truth':>7} {'lesions':>9} {'images':>9}")
    outside = 0
    for name in METRICS:
        lesions, images = (held[unit][name] / asked.tests for unit in ("lesions", "images"))
        mark = "" if 0.93 <= lesions <= 0.97 else "  <- not within 93 to 97%"
        outside += bool(mark)
        print(f"{name:<20} {truth[name]:>7.3f} {lesions:>9.1%} {images:>9.1%}{mark}")
    return int(outside > 0)


if __name__ == "__main__":
    raise SystemExit(main())
