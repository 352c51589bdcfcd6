"""Ensembles: the predictions tables of several models on the same images, combined into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from lesion_exp.choices import ENSEMBLES
from lesion_exp.errors import ConfigError, DataError, check_choice, first_cases
from lesion_exp.evaluation.calibrator import log_probs, with_probabilities
from lesion_exp.evaluation.predictions import (
    ENERGY,
    BoolArray,
    FloatArray,
    classes_of,
    is_unknown,
    probabilities,
    true_classes,
)

_SMALLEST_STACKED: Final = 1e-6
"""Smaller probabilities are replaced by this one in a stacked ensemble: log(1e-30) would outweigh all other values."""


@dataclass(frozen=True)
class Stacking:
    """A stacked ensemble, softmax(W x + b), where x are the centred log-probabilities of all models (Wolpert 1992,
    doi:10.1016/S0893-6080(05)80023-1). It is fitted on the validation part, on which no model was trained."""

    weights: tuple[tuple[float, ...], ...]
    """(C, models * C)."""
    bias: tuple[float, ...]

    @classmethod
    def fit(cls, tables: Sequence[pd.DataFrame]) -> Self:
        """Fits scikit-learn's logistic regression with its default penalty, C = 1.

        Args:
            tables: the aligned predictions of each model on the validation part.

        Raises:
            DataError: a class has no image in the validation part.
        """
        true, classes = true_classes(tables[0]), classes_of(tables[0])
        absent = [name for position, name in enumerate(classes) if position not in set(true)]
        if absent:
            raise DataError(
                f"expected every class in the validation part for ensemble=stacked, but {', '.join(absent)} has no "
                f"image there; use ensemble=mean"
            )
        fitted = LogisticRegression(C=1.0, max_iter=2000).fit(_features(tables), true)
        weights, bias = fitted.coef_, fitted.intercept_
        if len(classes) == 2:  # scikit-learn only returns the row of the second class
            weights, bias = np.vstack([np.zeros_like(weights), weights]), np.concatenate([[0.0], bias])
        return cls(tuple(tuple(map(float, row)) for row in weights), tuple(map(float, bias)))

    def apply(self, tables: Sequence[pd.DataFrame]) -> FloatArray:
        """Returns the probabilities, float64 (N, C), from the aligned predictions of each model."""
        logits = _features(tables) @ np.array(self.weights).T + np.array(self.bias)
        return np.asarray(softmax(logits, axis=1), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"weights": [list(row) for row in self.weights], "bias": list(self.bias)}


def ensemble(
    method: str, tables: Sequence[pd.DataFrame], validation: Sequence[pd.DataFrame] | None = None
) -> pd.DataFrame:
    """Combines the predictions tables of several models on the same images into one.

    - `mean`: the mean probability, and the mean energy;
    - `rank`: for each class the mean over the models of an image's rank among all images of the table, divided by the
      image's sum over classes. Overconfident models do not get a larger weight. The results are useful for AUROCs, but
      they are not probabilities: the row of an image depends on the other images;
    - `stacked`: a logistic regression on all probabilities, fitted on `validation`.

    Args:
        method: mean, rank or stacked.
        tables: the predictions tables of at least two models.
        validation: for `stacked`, the tables of the same models on the validation part.

    Raises:
        ConfigError: the method is unknown, or there are fewer than two tables.
        DataError: the tables differ in their images, classes or labels; see `same_rows`.
    """
    check_choice("ensemble", method, ENSEMBLES)
    if len(tables) < 2:
        raise ConfigError(f"expected at least two runs for an ensemble, got {len(tables)}; name them run=[A,B]")
    tables = same_rows(tables)
    first = tables[0].drop(columns=ENERGY, errors="ignore")
    if method == "stacked":
        assert validation is not None, "a stacked ensemble is fitted on validation"
        return with_probabilities(first, Stacking.fit(same_rows(validation)).apply(tables))
    probs = np.stack([probabilities(table) for table in tables])
    if method == "rank":
        probs = _ranks(probs, ~is_unknown(first))
    elif all(ENERGY in table for table in tables):
        energies = np.mean([table[ENERGY].to_numpy(np.float64) for table in tables], axis=0)
        first = first.assign(**{ENERGY: energies.astype(np.float32)})
    mean = probs.mean(axis=0)
    return with_probabilities(first, mean / mean.sum(axis=1, keepdims=True))


def _ranks(probs: FloatArray, known: BoolArray) -> FloatArray:
    """The ranks of the probabilities of M models, (M, N, C), among the images of known classes, divided by the number
    of these. Ties have the mean rank. Images of unknown classes do not change the ranks of the others."""
    ranks = np.empty_like(probs)
    for model, place in np.ndindex(probs.shape[0], probs.shape[2]):
        scores = probs[model, :, place]
        ordered = np.sort(scores[known])
        first, behind = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
        ranks[model, :, place] = first + behind + 1
    return ranks / 2 / np.count_nonzero(known)


def same_rows(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Returns the tables with their rows in the order of the first.

    Raises:
        DataError: the images, classes or labels differ.
    """
    first = tables[0]
    found = [first]
    for number, table in enumerate(tables[1:], start=2):
        if classes_of(table) != classes_of(first):
            raise DataError(
                f"expected predictions of the same classes, got {', '.join(classes_of(first))} in run 1 and "
                f"{', '.join(classes_of(table))} in run {number}; name runs of one task"
            )
        differing = sorted(set(first["row_id"]) ^ set(table["row_id"]))
        if differing:
            raise DataError(
                f"expected predictions of the same images, but {len(differing):,} images are in only one of the runs 1 "
                f"and {number}:\n{first_cases(differing)}\nuse runs with the same split (the tag split_hash), or "
                f"evaluate them on another data set with dataset=NAME dataset.root=DIR"
            )
        ordered = table.set_index("row_id").loc[first["row_id"]].reset_index()
        other = (ordered["label"].astype(str).to_numpy() != first["label"].astype(str).to_numpy()).nonzero()[0]
        if len(other):
            raise DataError(
                f"expected the same labels in all runs, but {len(other):,} images have other labels in run {number} "
                f"than in run 1:\n{first_cases(first['image_id'].iloc[other])}\nname runs of one task and one set of "
                f"labels"
            )
        found.append(ordered)
    return found


def _features(tables: Sequence[pd.DataFrame]) -> FloatArray:
    """The centred log-probabilities of all models side by side, float64 (N, models * C)."""
    logits = [log_probs(np.clip(probabilities(table), _SMALLEST_STACKED, 1.0)) for table in tables]
    return np.concatenate([logs - logs.mean(axis=1, keepdims=True) for logs in logits], axis=1)
