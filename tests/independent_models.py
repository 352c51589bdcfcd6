"""Predictions of several models of the same images, for tests of what combines them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from lesion_exp.evaluation.calibrator import with_probabilities
from lesion_exp.evaluation.predictions import true_classes

MakeTable = Callable[..., pd.DataFrame]


def members(make_table: MakeTable, size: int, seed: int, count: int = 3) -> list[pd.DataFrame]:
    """Models of the same images whose mistakes are independent of one another."""
    first = make_table(size, {"bkl": 1, "mel": 1, "nv": 2}, seed=seed)
    rng = np.random.default_rng(seed)
    true = np.eye(3)[true_classes(first)]
    tables = []
    for _ in range(count):
        exps = np.exp(rng.normal(size=(size, 3)) + 1.2 * true)
        tables.append(with_probabilities(first, exps / exps.sum(axis=1, keepdims=True)))
    return tables
