"""Which images are shown, and which the figures are about."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import pandas as pd

from lesion_exp.evaluation.predictions import IntArray, classes_of, predicted_classes, probabilities, true_classes

Kind = Literal["right", "most confident wrong", "wrong"]
KINDS: Final[tuple[Kind, ...]] = ("right", "most confident wrong", "wrong")
SEED: Final = 0
"""Of all draws: every method shows the same images."""

Selection = dict[str, dict[Kind, IntArray]]
"""Positions in the predictions table, by true class and kind."""


def gallery_positions(table: pd.DataFrame, count: int) -> Selection:
    """Of each class that has images: `count` right ones drawn at random, the `count` wrong ones of the highest
    probability, the surest first, and `count` of the other wrong ones drawn at random."""
    probs, true, predicted = probabilities(table), true_classes(table), predicted_classes(table)
    confidence = probs[np.arange(len(probs)), predicted]
    rng = np.random.default_rng(SEED)
    chosen: Selection = {}
    for position, name in enumerate(classes_of(table)):
        mine = true == position
        if not mine.any():
            continue
        right, wrong = np.flatnonzero(mine & (predicted == true)), np.flatnonzero(mine & (predicted != true))
        surest = wrong[np.argsort(-confidence[wrong], kind="stable")[:count]]
        others = np.setdiff1d(wrong, surest)
        chosen[name] = {
            "right": _drawn(right, count, rng), "most confident wrong": surest, "wrong": _drawn(others, count, rng)
        }  # fmt: skip
    return chosen


def drawn_positions(num_images: int, wanted: int) -> IntArray:
    """`wanted` of `num_images` positions, or all of them, in ascending order."""
    return _drawn(np.arange(num_images), wanted, np.random.default_rng(SEED))


def _drawn(positions: IntArray, count: int, rng: np.random.Generator) -> IntArray:
    if len(positions) <= count:
        return positions.astype(np.int64)
    return np.sort(rng.choice(positions, count, replace=False)).astype(np.int64)
