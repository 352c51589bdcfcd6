"""Which images are shown, and which the figures are about."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import pandas as pd

from lesion_exp.evaluation.failures import first_of_each_lesion
from lesion_exp.evaluation.intervals import lesion_of
from lesion_exp.evaluation.predictions import IntArray, classes_of, predicted_classes, probabilities, true_classes

Kind = Literal["right", "most confident wrong", "wrong"]
KINDS: Final[tuple[Kind, ...]] = ("right", "most confident wrong", "wrong")
SEED: Final = 0
"""Of all draws: every method shows the same images."""

Selection = dict[str, dict[Kind, IntArray]]
"""Positions in the predictions table, by true class and kind."""


def gallery_positions(table: pd.DataFrame, count: int) -> Selection:
    """Of each class that has images: `count` right ones drawn at random, the `count` wrong ones of the highest
    probability, the surest first, and `count` of the other wrong ones drawn at random. No lesion is shown twice."""
    probs, true, predicted = probabilities(table), true_classes(table), predicted_classes(table)
    confidence = probs[np.arange(len(probs)), predicted]
    lesion, _ = lesion_of(table)
    rng = np.random.default_rng(SEED)
    chosen: Selection = {}
    for position, name in enumerate(classes_of(table)):
        mine = true == position
        if not mine.any():
            continue
        right, wrong = np.flatnonzero(mine & (predicted == true)), np.flatnonzero(mine & (predicted != true))
        surest = first_of_each_lesion(table, wrong[np.argsort(-confidence[wrong], kind="stable")])[:count]
        shown = _of_new_lesions(right, lesion, surest, count, rng)
        others = _of_new_lesions(wrong, lesion, np.concatenate([surest, shown]), count, rng)
        chosen[name] = {"right": shown, "most confident wrong": surest, "wrong": others}
    return chosen


def drawn_positions(num_images: int, wanted: int) -> IntArray:
    """`wanted` of `num_images` positions, or all of them, in ascending order."""
    return _drawn(np.arange(num_images), wanted, np.random.default_rng(SEED))


def _of_new_lesions(
    positions: IntArray, lesion: IntArray, shown: IntArray, count: int, rng: np.random.Generator
) -> IntArray:
    """`count` of `positions`, drawn, ascending, of different lesions, none of which `shown` shows."""
    order = rng.permutation(positions[~np.isin(lesion[positions], lesion[shown])])
    _, first = np.unique(lesion[order], return_index=True)
    return np.sort(order[np.sort(first)][:count]).astype(np.int64)


def _drawn(positions: IntArray, count: int, rng: np.random.Generator) -> IntArray:
    if len(positions) <= count:
        return positions.astype(np.int64)
    return np.sort(rng.choice(positions, count, replace=False)).astype(np.int64)
