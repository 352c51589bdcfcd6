"""Simulates how many of the labels that `label-errors` suspects are wrong, by the strength of the network.

For 2, 3 and 7 classes and 5 and 10% of wrong labels (any other class), networks of different strength predict 1,000
images: their logits are normal with the log of the class's share as mean, raised for the true class. Each line has the
skill, from guessing (0) to always right (1), the balanced accuracy, the share of the suspected labels that are wrong
and the share of the wrong labels that are suspected. The limit in `lesion_exp/evaluation/label_errors.py` is chosen by
these numbers.

    python scripts/label_error_bar.py
"""

from __future__ import annotations

import itertools

import numpy as np
from cleanlab.filter import find_label_issues

IMAGES, REPEATS = 1000, 8
STRENGTHS = (0.2, 0.5, 0.8, 1.1, 1.4, 1.7, 2.0, 2.5, 3.0, 4.0)


def simulate(num_classes: int, noise: float, strength: float, rng: np.random.Generator) -> tuple[float, float, float]:
    """Simulates one network: its balanced accuracy, and the precision and recall of the suspicions."""
    shares = np.maximum(rng.dirichlet(np.full(num_classes, 2.0)), 0.03)
    shares /= shares.sum()
    true = rng.choice(num_classes, IMAGES, p=shares)
    logits = rng.normal(size=(IMAGES, num_classes))
    logits[np.arange(IMAGES), true] += 1.2 * strength
    logits = logits * max(strength, 0.5) + np.log(shares)
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    wrong = rng.random(IMAGES) < noise
    labels = np.where(wrong, (true + rng.integers(1, num_classes, IMAGES)) % num_classes, true)
    right = probs.argmax(axis=1) == labels
    balanced = float(np.mean([right[labels == name].mean() for name in np.unique(labels)]))
    suspected = find_label_issues(labels, probs, n_jobs=1)
    hits = int((suspected & wrong).sum())
    return balanced, hits / max(int(suspected.sum()), 1), hits / int(wrong.sum())


def main() -> None:
    """Prints the table."""
    rng = np.random.default_rng(0)
    print("classes  wrong labels  skill  balanced accuracy  suspected that are wrong  wrong that are suspected")
    for num_classes, noise in itertools.product((2, 3, 7), (0.05, 0.1)):
        for strength in STRENGTHS:
            found = [simulate(num_classes, noise, strength, rng) for _ in range(REPEATS)]
            balanced, precision, recall = np.mean(found, axis=0)
            skill = (balanced - 1 / num_classes) / (1 - 1 / num_classes)
            print(f"{num_classes:7}  {noise:12.0%}  {skill:5.2f}  {balanced:17.2f}  {precision:24.2f}  {recall:24.2f}")


if __name__ == "__main__":
    main()
