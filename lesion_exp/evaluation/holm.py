"""Holm's correction of p-values for their number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """The adjusted p-values, in the order given; those that are None stay so and do not count.

    With m values in rising order, the k-th becomes the largest of (m - j + 1) p_j, j <= k, at most 1. Calling those
    below 0.05 real is wrong about any of them with a probability of at most 5%, however they depend on each other.
    Source: Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    places = [place for place, p_value in enumerate(p_values) if p_value is not None]
    known = np.array([p_value for p_value in p_values if p_value is not None])
    order = np.argsort(known, kind="stable")
    scaled = known[order] * (len(known) - np.arange(len(known)))
    adjusted = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(known) else scaled
    result: list[float | None] = [None] * len(p_values)
    for rank, position in enumerate(order):
        result[places[position]] = float(adjusted[rank])
    return result
