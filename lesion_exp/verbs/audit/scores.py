"""What a split's leaks do to scores: the metrics of given predictions with and without the touched test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp.errors import DataError, first_cases
from lesion_exp.evaluation.intervals import Estimate, bootstrap, units_of
from lesion_exp.evaluation.metrics import metric_names, weighted_metrics
from lesion_exp.evaluation.predictions import PREFIX, has_labels_only, predictions_table
from lesion_exp.evaluation.registry import AUROC_MACRO
from lesion_exp.evaluation.weighted import Weighted, difference
from lesion_exp.verbs.audit.listed_parts import Names, read_table

METRICS: Final = ("accuracy", "balanced_accuracy", "f1_macro", AUROC_MACRO)
PREDICTION: Final = "prediction"
Sets = Mapping[str, Estimate]


@dataclass(frozen=True)
class Scores:
    """Metrics of predictions on all test images, and without those that are touched by the training part."""

    source: str
    """The predictions, in words."""
    images: dict[str, int]
    """`all`, `untouched` and `touched` -> images with a prediction."""
    missing: int
    """Test images without a prediction; they do not count."""
    absent_classes: tuple[str, ...]
    """Classes without an untouched image: the means over classes leave them out there."""
    metrics: dict[str, dict[str, Estimate]]
    """Metric -> `all`, `untouched`, `touched` and `difference` (all - untouched), as far as they are defined."""
    has_probabilities: bool

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        found = {name: {where: value._asdict() for where, value in row.items()} for name, row in self.metrics.items()}
        return asdict(self) | {"absent_classes": list(self.absent_classes), "metrics": found}


def scores(
    test: pd.DataFrame, touched: pd.Series, predicted: pd.DataFrame, source: str, draws: int, seed: int
) -> Scores:
    """Computes the metrics of the predictions on all test images, and on those that are touched and untouched.

    The intervals are over lesions. That of the difference comes from draws of the lesions of all test images: in each
    draw both metrics are computed on the same lesions.

    Args:
        test: the test part, with the columns of `dataset.table`.
        touched: bool, with the index of `test`: whether an image of the training part is of its group.
        predicted: as `read_predicted` returns it, or a predictions table.
        source: the predictions, in words.
        draws: number of bootstrap draws.
        seed: seed of the draws.

    Raises:
        DataError: no test image has a prediction, an image has two, or a label is not among the predicted classes.
    """
    rows, probs, classes, has_probabilities = _joined(test, predicted, source)
    table = predictions_table(rows, probs, classes)
    is_touched = touched.loc[rows.index].to_numpy()
    wanted = [name for name in METRICS if has_probabilities or name != AUROC_MACRO]
    wanted = [name for name in wanted if name in metric_names(classes)]
    masks = {"all": np.ones(len(table), bool), "untouched": ~is_touched, "touched": is_touched}
    found = {where: _estimates(table[mask], wanted, draws, seed) for where, mask in masks.items() if mask.any()}
    if {"untouched", "touched"} <= found.keys():
        group, num_groups = units_of(table)
        both = (weighted_metrics(table[mask], group[mask], num_groups, wanted) for mask in list(masks.values())[:2])
        found["difference"] = bootstrap(Weighted(difference(*both).at), num_groups, draws, seed)
    labels = table["label"].to_numpy()
    return Scores(
        source=source,
        images={"all": len(table), "untouched": int((~is_touched).sum()), "touched": int(is_touched.sum())},
        missing=len(test) - len(rows),
        absent_classes=tuple(sorted(set(labels) - set(labels[~is_touched]))),
        metrics={name: {where: found[where][name] for where in found if name in found[where]} for name in wanted},
        has_probabilities=has_probabilities,
    )


def _estimates(table: pd.DataFrame, names: Sequence[str], draws: int, seed: int) -> dict[str, Estimate]:
    group, num_groups = units_of(table)
    return bootstrap(weighted_metrics(table, group, num_groups, names), num_groups, draws, seed)


def read_predicted(path: Path) -> pd.DataFrame:
    """Returns the predictions in the file at `path`: a column of images, and `p_<class>` columns or `prediction`.

    Raises:
        DataError: the file cannot be read, or has none of these columns.
    """
    frame = read_table(path)
    if not _probability_columns(frame) and PREDICTION not in frame:
        raise DataError(
            f"expected a column {PREFIX}CLASS for each class, or a column {PREDICTION} with classes, in {path}, got "
            f"{', '.join(map(str, frame))}; rename its columns"
        )
    return frame


def _probability_columns(frame: pd.DataFrame) -> list[str]:
    return sorted(str(name) for name in frame if str(name).startswith(PREFIX))


def _joined(
    test: pd.DataFrame, predicted: pd.DataFrame, source: str
) -> tuple[pd.DataFrame, np.ndarray[tuple[int, int], np.dtype[np.float64]], Sequence[str], bool]:
    """Returns the test images with a prediction, their probabilities (N, C), the classes, and whether these are known
    probabilities and not 1 for the predicted class."""
    columns = _probability_columns(predicted)
    names = (
        predicted[["image_id"]]
        if "image_id" in predicted
        else predicted.drop(columns=[*columns, PREDICTION], errors="ignore")
    )
    images = test.drop_duplicates("image_id")
    _, rows = Names(images).column_of(names, source)
    known = rows >= 0
    found = pd.Series(rows[known])
    if found.duplicated().any():
        cases = images["image_id"].iloc[found[found.duplicated()]]
        raise DataError(
            f"expected one prediction for each image in {source}, got several for {found.duplicated().sum():,}; leave "
            f"one of them:\n{first_cases(cases)}"
        )
    if columns:
        classes = [name.removeprefix(PREFIX) for name in columns]
        probs = predicted.loc[known, columns].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    else:
        named = predicted.loc[known, PREDICTION].astype(str)
        classes = sorted(set(named) | set(test["label"].astype(str)))
        probs = np.eye(len(classes))[pd.Index(classes).get_indexer(pd.Index(named))]
    place = pd.Series(np.arange(known.sum()), index=images["image_id"].iloc[rows[known]].to_numpy())
    at = test["image_id"].map(place)
    chosen = test[at.notna()]
    order = at.dropna().to_numpy(np.int64)
    return (
        chosen.drop(columns=["split", "group"], errors="ignore"),
        probs[order],
        classes,
        bool(columns) and not has_labels_only(predicted),
    )
