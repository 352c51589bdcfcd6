"""Predictions tables of several models on the same images, made into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from lesion_exp.choices import ENSEMBLES
from lesion_exp.errors import ConfigError, DataError, check_choice, first_cases
from lesion_exp.evaluation.calibrator import log_probs, with_probabilities
from lesion_exp.evaluation.predictions import ENERGY, FloatArray, classes_of, is_unknown, probabilities, true_classes

_SMALLEST_STACKED: Final = 1e-6
"""Probabilities below this count as this in a stacked ensemble: the logarithm of 1e-30 would drown all others."""


@dataclass(frozen=True)
class Stacking:
    """softmax(W x + b), x the log-probabilities of all members side by side (Wolpert 1992,
    doi:10.1016/S0893-6080(05)80023-1); fitted on the validation part, on which none of the members was trained."""

    weights: tuple[tuple[float, ...], ...]
    """A row a class, members times classes columns."""
    bias: tuple[float, ...]

    @classmethod
    def fit(cls, tables: Sequence[pd.DataFrame]) -> Self:
        """By scikit-learn's logistic regression with its usual penalty, C = 1, on centred log-probabilities.

        Args:
            tables: predictions of each member on the validation part, aligned.

        Raises:
            DataError: a class has no image there.
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
        if len(classes) == 2:  # scikit-learn keeps the second class's row only
            weights, bias = np.vstack([np.zeros_like(weights), weights]), np.concatenate([[0.0], bias])
        return cls(tuple(tuple(map(float, row)) for row in weights), tuple(map(float, bias)))

    def apply(self, tables: Sequence[pd.DataFrame]) -> FloatArray:
        """The probabilities, float64 (N, C), from the aligned predictions of each member."""
        logits = _features(tables) @ np.array(self.weights).T + np.array(self.bias)
        return np.asarray(softmax(logits, axis=1), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"weights": [list(row) for row in self.weights], "bias": list(self.bias)}


def ensemble(
    method: str, tables: Sequence[pd.DataFrame], validation: Sequence[pd.DataFrame] | None = None
) -> pd.DataFrame:
    """One predictions table from those of several models on the same images.

    - `mean`: the mean probability, and the mean energy;
    - `rank`: for each class the mean rank of an image among the others of the table, which members that are certain
      to different degrees then share equally; divided by the image's sum. Good for AUROCs, no probabilities: an image's
      row depends on the others;
    - `stacked`: a logistic regression on all probabilities, fitted on `validation`.

    Args:
        method: mean, rank or stacked.
        tables: predictions tables of two models or more.
        validation: for `stacked`, the tables of the same models on the validation part.

    Raises:
        ConfigError: unknown method, or fewer than two tables.
        DataError: the tables are of other images, classes or labels; see `aligned`.
    """
    check_choice("ensemble", method, ENSEMBLES)
    if len(tables) < 2:
        raise ConfigError(f"expected at least two runs for an ensemble, got {len(tables)}; name them run=[A,B]")
    tables = aligned(tables)
    first = tables[0].drop(columns=ENERGY, errors="ignore")
    if method == "stacked":
        assert validation is not None, "a stacked ensemble is fitted on validation"
        return with_probabilities(first, Stacking.fit(aligned(validation)).apply(tables))
    members = np.stack([probabilities(table) for table in tables])
    if method == "rank":
        members = _ranks(members, ~is_unknown(first))
    elif all(ENERGY in table for table in tables):
        energies = np.mean([table[ENERGY].to_numpy(np.float64) for table in tables], axis=0)
        first = first.assign(**{ENERGY: energies.astype(np.float32)})
    mean = members.mean(axis=0)
    return with_probabilities(first, mean / mean.sum(axis=1, keepdims=True))


def _ranks(members: FloatArray, known: npt.NDArray[np.bool_]) -> FloatArray:
    """The ranks of (M, N, C) probabilities among those of the known images, ties sharing the mean, in shares of their
    number: images of unknown classes change nothing for the others."""
    ranks = np.empty_like(members)
    for member, place in np.ndindex(members.shape[0], members.shape[2]):
        scores = members[member, :, place]
        ordered = np.sort(scores[known])
        first, behind = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
        ranks[member, :, place] = first + behind + 1
    return ranks / 2 / np.count_nonzero(known)


def aligned(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """The tables with their rows in the order of the first.

    Raises:
        DataError: images, classes or labels differ.
    """
    first = tables[0]
    found = [first]
    for number, table in enumerate(tables[1:], start=2):
        if classes_of(table) != classes_of(first):
            raise DataError(
                f"expected predictions of the same classes, got {', '.join(classes_of(first))} and, of the "
                f"{number}. run, {', '.join(classes_of(table))}"
            )
        differing = sorted(set(first["row_id"]) ^ set(table["row_id"]))
        if differing:
            raise DataError(
                f"expected predictions of the same images, but {len(differing):,} are in one only of the first and the "
                f"{number}. run:\n{first_cases(differing)}\nuse runs with the same split (the tag split_hash), or "
                f"evaluate them on a set of its own with dataset=NAME dataset.root=DIR"
            )
        ordered = table.set_index("row_id").loc[first["row_id"]].reset_index()
        other = (ordered["label"].astype(str).to_numpy() != first["label"].astype(str).to_numpy()).nonzero()[0]
        if len(other):
            raise DataError(
                f"expected the same labels, but {len(other):,} images of the {number}. run have others:\n"
                f"{first_cases(first['image_id'].iloc[other])}"
            )
        found.append(ordered)
    return found


def _features(tables: Sequence[pd.DataFrame]) -> FloatArray:
    members = [log_probs(np.clip(probabilities(table), _SMALLEST_STACKED, 1.0)) for table in tables]
    return np.concatenate([logs - logs.mean(axis=1, keepdims=True) for logs in members], axis=1)
