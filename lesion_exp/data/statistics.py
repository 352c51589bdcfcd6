"""Mean and standard deviation of the colours of the training images, for `augmentation.mean=train`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import cv2
import numpy as np
import pandas as pd

from lesion_exp.choices import OF_TRAINING
from lesion_exp.data.store import ImageStore
from lesion_exp.image_file import UInt8Array

_KEYS: Final = {"mean": "mean", "fill": "mean", "std": "std"}
"""Key of an augmentation whose value may be `train` -> the statistic that replaces this value."""


def asks_for_statistics(augmentation: Mapping[str, Any]) -> bool:
    """Returns whether a value of the node `augmentation` of a config must be computed from the training images."""
    return OF_TRAINING in (augmentation.get("mean"), augmentation.get("std"))


def training_statistics(
    table: pd.DataFrame, store: ImageStore, shown: Callable[[int], UInt8Array]
) -> dict[str, list[float]]:
    """Returns `mean` and `std` of each channel (RGB, 0 to 1) over the images of the training part.

    Every image has the same weight. Images of the other parts are not read.

    Args:
        table: a split table.
        store: the image store of the table.
        shown: returns the image in a row of the store as it is to be counted, uint8 (H, W, 3).
    """
    rows = store.rows(table.loc[table["split"] == "train", "image_id"].drop_duplicates())
    first, second = np.zeros(3), np.zeros(3)
    for row in rows:
        mean, deviation = (values.ravel() / 255 for values in cv2.meanStdDev(shown(int(row))))
        first += mean
        second += mean**2 + deviation**2
    mean = first / len(rows)
    std = np.sqrt(np.maximum(second / len(rows) - mean**2, (1 / 255) ** 2))  # at least one grey level
    return {"mean": [round(float(value), 6) for value in mean], "std": [round(float(value), 6) for value in std]}


def with_statistics(augmentation: Any, statistics: Mapping[str, Sequence[float]]) -> Any:
    """Returns a copy of `augmentation` in which `statistics` replace the value `train`."""
    if not isinstance(augmentation, Mapping):
        return augmentation
    made = {key: with_statistics(value, statistics) for key, value in augmentation.items()}
    asked = [key for key, value in augmentation.items() if key in _KEYS and value == OF_TRAINING]
    return {**made, **{key: list(statistics[_KEYS[key]]) for key in asked}}
