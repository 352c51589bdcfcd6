"""Stacked ensembles: a model on the predictions of others, the patient's context and metadata (Wolpert 1992,
doi:10.1016/S0893-6080(05)80023-1).

Two rules prevent that labels leak into the predictions that are compared with them:

- the model is fitted on predictions of images that no member was trained on, those of the validation part or of the
  held-out folds of a cross-validation;
- predictions of the very images that it is fitted on come from models of other folds. These folds are dealt by group
  (`groups_of`), so that no image is predicted by a model that saw its patient.

As in every stacked ensemble on one cross-validation, the networks whose held-out predictions a fold's model was fitted
on were trained with labels of the images that it predicts. A test with networks trained on random labels shows that
these labels do not leak (`tests/evaluation/test_stacking.py`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np
import pandas as pd

from lesion_exp.choices import STACK_COLUMNS, STACK_FEATURES, STACKS
from lesion_exp.errors import DataError, check_choice
from lesion_exp.evaluation.calibration import log_losses
from lesion_exp.evaluation.calibrator import with_probabilities
from lesion_exp.evaluation.ensemble import same_rows
from lesion_exp.evaluation.patient_context import groups_of
from lesion_exp.evaluation.predictions import (
    ENERGY,
    FloatArray,
    IntArray,
    classes_of,
    is_unknown,
    known_rows,
    true_classes,
)
from lesion_exp.evaluation.stack_features import PREDICTIONS, StackFeatures
from lesion_exp.evaluation.stack_models import Predict, StackModel, check_installed, fit_model, fit_present, read_model

REPEATS: Final = 3
"""Permutations of each source of features in each fold."""
MOST_PERMUTED: Final = 20_000
"""Largest number of images of a fold whose features are permuted."""


@dataclass(frozen=True)
class StackOptions:
    """How a stacked ensemble is fitted."""

    stack: str = STACKS[0]
    """`logistic`, `hgb` or `lgbm`."""
    features: tuple[str, ...] = STACK_FEATURES
    """Groups of features, see `StackFeatures`."""
    columns: tuple[str, ...] = STACK_COLUMNS
    """Columns of metadata."""
    folds: int = 5
    """Number of folds in which the images are predicted that the ensemble is fitted on."""
    seed: int = 0
    """Seed of the folds and of the permutations."""
    balanced: bool = False
    """Whether each class has the same total weight in the fit; the probabilities are then not calibrated."""

    def __post_init__(self) -> None:
        """Checks the names.

        Raises:
            ConfigError: a name is unknown.
        """
        check_choice("stack", self.stack, STACKS)
        for name in self.features:
            check_choice("stack_features", name, STACK_FEATURES)


@dataclass(frozen=True)
class Importance:
    """How much the log loss of held-out images grows if a source of features is permuted among them."""

    source: str
    group: str
    increase: float
    """Mean over folds and permutations, in nats."""
    deviation: float
    """Standard deviation over the folds of their means; 0 for one fold."""


@dataclass(frozen=True)
class Stacking:
    """A fitted stacked ensemble."""

    options: StackOptions
    features: StackFeatures
    model: StackModel
    images: int
    """Number of images of the fit."""
    groups: int
    """Number of their groups."""

    def apply(self, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """Returns the predictions table of the ensemble from those of its members.

        The context of a patient is made of all images of the patient in these tables.

        Raises:
            DataError: the tables differ in their images, classes or labels, or lack a column.
        """
        tables = same_rows(tables)
        return _as_table(tables[0], self.probabilities(tables))

    def probabilities(self, tables: Sequence[pd.DataFrame]) -> FloatArray:
        """Returns the probabilities, float64 (N, C), from tables of the members with the same rows in the same order;
        labels are not needed.

        Raises:
            DataError: see `StackFeatures.matrix`.
        """
        return self.model.probs(self.features.matrix(tables))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        return {
            "options": {**asdict(self.options), **{k: list(getattr(self.options, k)) for k in ("features", "columns")}},
            "features": self.features.to_dict(),
            "names": [feature.name for feature in self.features.features],
            "model": self.model.to_dict(),
            "fitted_on": {"images": self.images, "groups": self.groups},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restores the values of `to_dict`.

        Raises:
            DataError: the values are not those of a stacked ensemble.
        """
        try:
            found = values["options"]
            options = StackOptions(
                str(found["stack"]), tuple(found["features"]), tuple(found["columns"]), int(found["folds"]),
                int(found["seed"]), bool(found["balanced"]),
            )  # fmt: skip
            features = StackFeatures.from_dict(values["features"])
            counts = int(values["fitted_on"]["images"]), int(values["fitted_on"]["groups"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"expected a stacked ensemble that evaluate ensemble=stacked stored, got other values ({error!r}); "
                f"combine the runs again"
            ) from error
        return cls(options, features, read_model(values["model"]), *counts)


@dataclass(frozen=True)
class FittedStacking:
    """A stacked ensemble with the results of its fit."""

    stacking: Stacking
    table: pd.DataFrame
    """Predictions of the images of the fit, each by a model that saw no image of its group."""
    folds: int
    importance: tuple[Importance, ...]
    """The most important source first."""
    notes: tuple[str, ...]
    """Sentences about features that the data do not have."""


def fit_stacking(tables: Sequence[pd.DataFrame], options: StackOptions) -> FittedStacking:
    """Fits a stacked ensemble on the predictions of images that no member was trained on.

    Args:
        tables: a predictions table of each member, one or more, with the same images.
        options: how the ensemble is fitted.

    Raises:
        ConfigError: a package is missing, or none of the wanted features exists.
        DataError: the tables differ in their images, classes or labels; a class has no image; or all images belong to
            one patient.
    """
    check_installed(options.stack)
    tables = same_rows(tables)
    first = tables[0]
    known, classes = np.flatnonzero(~is_unknown(first)), classes_of(first)
    true = true_classes(known_rows(first))
    absent = [name for position, name in enumerate(classes) if position not in set(true)]
    if absent:
        raise DataError(
            f"expected every class among the images that a stacked ensemble is fitted on, but {', '.join(absent)} has "
            f"no image there; use ensemble=mean"
        )
    features, notes = StackFeatures.fit(tables, options.features, options.columns)
    matrix, group = features.matrix(tables), groups_of(first)
    fold, num_folds = _dealt(first, group, options)
    unscaled = np.array([feature.group == PREDICTIONS for feature in features.features])

    def fitted(rows: IntArray) -> Predict:
        labels = true[np.searchsorted(known, rows)]
        weights = _weights(labels, len(classes), balanced=options.balanced)
        return fit_present(options.stack, matrix[rows], labels, len(classes), unscaled, weights)

    probs = np.zeros((len(first), len(classes)))
    increases: list[FloatArray] = []
    for number in range(num_folds):
        held_out = np.flatnonzero(fold == number)
        if not len(held_out):
            continue
        predict = fitted(known[fold[known] != number])
        probs[held_out] = predict(matrix[held_out])
        permuted = held_out[np.isin(held_out, known)]
        permuted = permuted[:: -(-len(permuted) // MOST_PERMUTED) or 1]
        labels = true[np.searchsorted(known, permuted)]
        increases.append(_increases(predict, matrix[permuted], labels, features, [options.seed, number]))
    weights = _weights(true, len(classes), balanced=options.balanced)
    model, _ = fit_model(options.stack, matrix[known], true, len(classes), unscaled, weights)
    stacking = Stacking(options, features, model, len(known), len(np.unique(group[known])))
    return FittedStacking(
        stacking, _as_table(first, probs), num_folds, _importance(features, np.array(increases)), tuple(notes)
    )


def _as_table(first: pd.DataFrame, probs: FloatArray) -> pd.DataFrame:
    return with_probabilities(first.drop(columns=ENERGY, errors="ignore"), probs)


def _weights(true: IntArray, num_classes: int, *, balanced: bool) -> FloatArray | None:
    if not balanced:
        return None
    counts = np.bincount(true, minlength=num_classes)
    return np.asarray((len(true) / np.count_nonzero(counts) / np.maximum(counts, 1))[true])


def _dealt(table: pd.DataFrame, group: IntArray, options: StackOptions) -> tuple[IntArray, int]:
    """Returns the fold of each image, with groups kept together and classes spread evenly, and the number of folds."""
    num_groups = len(np.unique(group))
    if num_groups < 2:
        raise DataError(
            "expected images of at least two patients to fit a stacked ensemble on, got one; use ensemble=mean"
        )
    labels = table["label"].astype(str).to_numpy()
    num_folds = max(min(options.folds, num_groups, np.unique(labels, return_counts=True)[1].max()), 2)
    fold = np.zeros(len(table), dtype=np.int64)
    from sklearn.model_selection import StratifiedGroupKFold  # fitting alone needs it

    dealer = StratifiedGroupKFold(num_folds, shuffle=True, random_state=options.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer images than folds is absent from some
        for number, (_, rows) in enumerate(dealer.split(labels, labels, group)):
            fold[rows] = number
    return fold, num_folds


def _increases(
    predict: Predict, matrix: FloatArray, true: IntArray, features: StackFeatures, seed: Sequence[int]
) -> FloatArray:
    """Returns the mean increase of the log loss by permuting each source, float64 (sources,); NaN without images."""
    sources = _sources(features)
    if not len(matrix):
        return np.full(len(sources), np.nan)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(matrix)) for _ in range(REPEATS)]
    before = log_losses(predict(matrix), true).mean()
    found = []
    for columns in sources.values():
        permuted = np.tile(matrix, (REPEATS, 1))
        permuted[:, columns] = matrix[np.concatenate(orders)][:, columns]
        found.append(log_losses(predict(permuted), np.tile(true, REPEATS)).mean() - before)
    return np.asarray(found)


def _sources(features: StackFeatures) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place, feature in enumerate(features.features):
        found.setdefault(feature.source, []).append(place)
    return found


def _importance(features: StackFeatures, increases: FloatArray) -> tuple[Importance, ...]:
    groups = {feature.source: feature.group for feature in features.features}
    found = []
    for source, values in zip(_sources(features), increases.T, strict=True):
        values = values[~np.isnan(values)]
        deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        found.append(Importance(source, groups[source], float(values.mean()), deviation))
    return tuple(sorted(found, key=lambda one: -one.increase))
