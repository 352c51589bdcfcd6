"""Simulates how often the largest gap between subgroups is found to be real although there is none.

    python scripts/false_gaps.py --tests 400

Draws test parts of lesions with two images each, whose patients belong to five bands of age, and a model that depends
on the class of a lesion alone. In one setting all ages have the same mix of classes, in the other the mix depends on
the age, as it does in patients: melanomas are rare in the young. Counts in how many of the tests the interval of the
largest gap excludes 0, for each metric and for a comparison of the highest with the lowest balanced accuracy whose
interval allows neither for the choice nor for the mix. Exits with 1 if more than 5% do (beyond the error of the
simulation), or if a planted difference, printed last, is found in fewer than half of the tests. It takes one core and
about 0.1 s for each test.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
import pandas as pd

CLASSES = ("bkl", "mel", "nv")
AGES = (20, 35, 50, 65, 80)
EQUAL = ((0.2, 0.2, 0.6),) * len(AGES)
BY_AGE = ((0.0, 0.05, 0.95), (0.1, 0.15, 0.75), (0.2, 0.2, 0.6), (0.4, 0.3, 0.3), (0.5, 0.35, 0.15))
LEVEL = 0.05


def drawn(rng: np.random.Generator, lesions: int, mixes: tuple[tuple[float, ...], ...], worse: float) -> pd.DataFrame:
    """Draws the predictions table of a model that is less certain, by `worse`, for the oldest patients."""
    from lesion_exp.evaluation.predictions import predictions_table

    band = rng.integers(0, len(AGES), lesions)
    label = np.array([rng.choice(len(CLASSES), p=mixes[place]) for place in band])
    signal = (1.5 + 0.7 * np.eye(3)[2][label])[:, None] * np.eye(3)[label]
    signal[band == len(AGES) - 1] -= worse * np.eye(3)[label][band == len(AGES) - 1]
    scores = np.repeat(signal + rng.normal(size=signal.shape), 2, axis=0)
    scores = np.exp(scores + 0.5 * rng.normal(size=scores.shape))
    names = np.arange(len(scores)).astype(str)
    rows = pd.DataFrame({"row_id": names, "image_id": names, "lesion_id": (names.astype(int) // 2).astype(str)})
    rows = rows.assign(label=np.array(CLASSES)[np.repeat(label, 2)], patient_id=None, source="drawn")
    rows = rows.assign(age=np.array(AGES, dtype=float)[np.repeat(band, 2)], sex="unknown", site="unknown")
    return predictions_table(rows, scores / scores.sum(axis=1, keepdims=True), CLASSES)


def naive(table: pd.DataFrame) -> bool:
    """Whether the uncorrected 95% interval of the highest less the lowest balanced accuracy excludes 0."""
    from lesion_exp.evaluation.intervals import units_of
    from lesion_exp.evaluation.limits import combined_limits
    from lesion_exp.evaluation.metrics import weighted_metrics

    group, num_groups = units_of(table)
    found = []
    for age in AGES:
        mask = (table["age"] == age).to_numpy()
        cell = weighted_metrics(table[mask].reset_index(drop=True), group[mask], num_groups, ["balanced_accuracy"])
        found.append(cell.limits["balanced_accuracy"]())
    found.sort(key=lambda limits: limits.value)
    return combined_limits((1.0, -1.0), [found[-1], found[0]]).low > 0


def main() -> int:
    """Prints a row for each setting and number of lesions."""
    parser = argparse.ArgumentParser(description="false gaps between subgroups")
    parser.add_argument("--tests", type=int, default=400, help="simulated test parts for each setting (400)")
    parser.add_argument("--lesions", type=int, nargs="+", default=[600, 1500], help="lesions of a test part")
    asked = parser.parse_args()
    from lesion_exp.evaluation.intervals import units_of
    from lesion_exp.evaluation.subgroups import COMPARED, attributes, largest_gaps

    allowed = LEVEL + 2 * (LEVEL * (1 - LEVEL) / asked.tests) ** 0.5
    failed = False
    print(f"{asked.tests} tests of lesions of five ages; the interval of the largest gap excludes 0 in")
    print(f"{'lesions':>7} {'setting':>22} {'left as it is':>14}", *(f"{name:>22}" for name in COMPARED))
    settings = (("no difference", EQUAL, 0.0), ("another mix by age", BY_AGE, 0.0), ("worse at one age", EQUAL, 1.5))
    for lesions in asked.lesions:
        for name, mixes, worse in settings:
            rng = np.random.default_rng(lesions)
            found = Counter[str]()
            for _ in range(asked.tests):
                table = drawn(rng, lesions, mixes, worse)
                ages = attributes(table)["age"]
                masks = {("age", age): (ages == age).to_numpy() for age in sorted(set(ages))}
                gaps = largest_gaps(table, *units_of(table), masks)
                found.update(gap.metric for gap in gaps if gap.difference.low > 0)
                found["naive"] += naive(table)
            shares = {metric: found[metric] / asked.tests for metric in ("naive", *COMPARED)}
            print(f"{lesions:>7} {name:>22} {shares['naive']:>14.1%}", *(f"{shares[m]:>22.1%}" for m in COMPARED))
            if worse:
                failed |= shares[COMPARED[0]] < 0.5
            else:
                failed |= max(shares[metric] for metric in COMPARED) > allowed
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
