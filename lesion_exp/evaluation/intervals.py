"""95% intervals of metrics, from a bootstrap over lesions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pandas as pd

from lesion_exp.errors import ConfigError, nearest
from lesion_exp.evaluation.metrics import metric_names, weighted_metrics
from lesion_exp.evaluation.predictions import FloatArray, IntArray, classes_of

HEADLINE: Final = ("accuracy", "balanced_accuracy", "f1_macro", "auroc_macro")
"""The metrics that are reported with an interval."""
_MAX_CELLS: Final = 2_000_000
"""Lesions times draws that are held at once: 16 MB of weights."""


def intervals(
    table: pd.DataFrame, names: Sequence[str] = HEADLINE, draws: int = 2000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """The 95% interval (low, high) of each metric: the 2.5% and 97.5% quantile over bootstrap draws of lesions.

    Each draw takes as many lesions as there are, with replacement, and each with all its images: images of a lesion
    are not independent, and drawing them one by one gives intervals that are too narrow. An image without lesion_id is
    a lesion of its own. Draws that do not determine a metric (a class of two lesions may miss) are left out of its
    quantiles; metrics that the table itself does not determine are left out of the result.
    Source: Efron 1979, doi:10.1214/aos/1176344552 (percentile method); Field and Welsh 2007,
    doi:10.1111/j.1467-9868.2007.00593.x (clusters).

    Args:
        table: predictions table.
        names: metrics, as `metrics` names them.
        draws: number of bootstrap draws.
        seed: the draws are a function of it and of the number of lesions.

    Raises:
        ConfigError: a name is unknown, or `draws` is not positive.
        DataError: this is no predictions table.
    """
    known = metric_names(classes_of(table))
    for name in names:
        if name not in known:
            raise ConfigError(f"expected the name of a metric, got {name!r}; {nearest(name, known)}")
    if draws < 1:
        raise ConfigError(f"expected at least 1 bootstrap draw, got {draws}; 2000 is a usual number")
    lesion, num_lesions = lesion_of(table)
    at = weighted_metrics(table, lesion, num_lesions, names)
    blocks = [at(weights) for weights in _draws(num_lesions, draws, seed)]
    values = {name: np.concatenate([block[name] for block in blocks]) for name in names}
    estimate = at(np.ones((num_lesions, 1)))
    return {name: _interval(values[name]) for name in names if not np.isnan(estimate[name][0])}


def lesion_of(table: pd.DataFrame) -> tuple[IntArray, int]:
    """The number of each image's lesion, int64 (N,), and how many lesions there are."""
    if "lesion_id" not in table:
        return np.arange(len(table)), len(table)
    codes, known = pd.factorize(table["lesion_id"])
    lesion = codes.astype(np.int64)
    missing = lesion < 0
    lesion[missing] = len(known) + np.arange(np.count_nonzero(missing))
    return lesion, len(known) + int(np.count_nonzero(missing))


def _draws(num_lesions: int, draws: int, seed: int) -> Iterator[FloatArray]:
    """How often each lesion is drawn, float64 (lesions, at most `draws`), block by block; the blocks' size is no part
    of the result."""
    rng = np.random.default_rng(seed)
    size = max(_MAX_CELLS // num_lesions, 1)
    for start in range(0, draws, size):
        width = min(size, draws - start)
        drawn = rng.integers(0, num_lesions, (width, num_lesions))
        cells = drawn * width + np.arange(width)[:, None]
        counts = np.bincount(cells.ravel(), minlength=num_lesions * width)
        yield counts.reshape(num_lesions, width).astype(np.float64)


def _interval(values: FloatArray) -> tuple[float, float]:
    low, high = np.quantile(values[~np.isnan(values)], [0.025, 0.975])
    return float(low), float(high)
