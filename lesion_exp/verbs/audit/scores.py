"""What a split's leaks do to scores: the metrics of given predictions with and without the touched test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from lesion_exp import taxonomy
from lesion_exp.errors import DataError, did_you_mean, first_cases
from lesion_exp.evaluation.class_mapping import (
    added_in_words,
    added_up,
    class_of,
    classes_of_labels,
    map_classes,
    map_predicted_classes,
    map_predicted_labels,
    mapping_in_words,
    predicted_mapping_in_words,
)
from lesion_exp.evaluation.intervals import Estimate, bootstrap, units_of
from lesion_exp.evaluation.metrics import metric_names, weighted_metrics
from lesion_exp.evaluation.predictions import (
    PREFIX,
    FloatArray,
    has_labels_only,
    is_unknown,
    known_rows,
    predictions_table,
)
from lesion_exp.evaluation.registry import AUROC_MACRO
from lesion_exp.evaluation.weighted import Weighted, difference
from lesion_exp.text_table import as_numbers, read_table
from lesion_exp.verbs.audit.listed_parts import column_of, ids_of

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
    others: int
    """Predictions of images that are not in the test part; they do not count."""
    absent_classes: tuple[str, ...]
    """Classes without an untouched image: the means over classes leave them out there."""
    metrics: dict[str, dict[str, Estimate]]
    """Metric -> `all`, `untouched`, `touched` and `difference` (all - untouched), as far as they are defined."""
    has_probabilities: bool
    notes: tuple[str, ...] = ()
    """How predicted and true classes were matched, and which images that leaves out, one sentence each."""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        found = {name: {where: value._asdict() for where, value in row.items()} for name, row in self.metrics.items()}
        return asdict(self) | {
            "absent_classes": list(self.absent_classes),
            "metrics": found,
            "notes": list(self.notes),
        }


def scores(
    split: pd.DataFrame, touched: pd.Series, predicted: pd.DataFrame, source: str, draws: int, seed: int
) -> Scores:
    """Computes the metrics of the predictions on all test images, and on those that are touched and untouched.

    The intervals are over lesions. That of the difference comes from draws of the lesions of all test images: in each
    draw both metrics are computed on the same lesions.

    Args:
        split: the split table, with the columns of `dataset.table`.
        touched: bool, with the index of the test part: whether an image of the training part is of its group.
        predicted: as `read_predicted` returns it, or a predictions table.
        source: the predictions, in words.
        draws: number of bootstrap draws.
        seed: seed of the draws.

    Raises:
        DataError: no test image has a prediction, an image has two, a probability is no number, or a class is unknown.
    """
    rows, probs, classes, has_probabilities, others, mapped = _joined(split, predicted, source)
    whole = predictions_table(rows, probs, classes)
    table = known_rows(whole).reset_index(drop=True)
    is_touched = touched.loc[rows.index].to_numpy()[~is_unknown(whole)]
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
        missing=int((split["split"] == "test").sum()) - len(rows),
        others=others,
        absent_classes=tuple(sorted(set(labels) - set(labels[~is_touched]))),
        metrics={name: {where: found[where][name] for where in found if name in found[where]} for name in wanted},
        has_probabilities=has_probabilities,
        notes=(*([mapped] if mapped else []), *mapping_in_words(whole)),
    )


def _estimates(table: pd.DataFrame, names: Sequence[str], draws: int, seed: int) -> dict[str, Estimate]:
    group, num_groups = units_of(table)
    return bootstrap(weighted_metrics(table, group, num_groups, names), num_groups, draws, seed)


def read_predicted(path: Path) -> pd.DataFrame:
    """Returns the predictions in the file at `path`: a column of images, and `p_<class>` columns or `prediction`.

    Raises:
        DataError: the file cannot be read, or has none of these columns.
    """
    frame = read_table(path, "predictions")
    if not _probability_columns(frame) and PREDICTION not in frame:
        raise DataError(
            f"expected a column {PREFIX}CLASS for each class, or a column {PREDICTION} with classes, in {path}, got "
            f"{', '.join(map(str, frame))}; rename its columns"
        )
    return frame


def _probability_columns(frame: pd.DataFrame) -> list[str]:
    return sorted(str(name) for name in frame if str(name).startswith(PREFIX))


class _Predicted(NamedTuple):
    """The predictions of N test images, in the order of `rows`."""

    rows: pd.DataFrame
    probs: FloatArray
    """Float (N, C)."""
    classes: tuple[str, ...]
    has_probabilities: bool
    """False if `probs` are 1 for the predicted class and 0 for the others."""
    others: int
    """Predictions of images that are not among the test images."""
    mapped: str
    """Which predicted classes count as a true one, in words; empty if none does."""


def _joined(table: pd.DataFrame, predicted: pd.DataFrame, source: str) -> _Predicted:
    test = table[table["split"] == "test"]
    columns = _probability_columns(predicted)
    given = predicted[columns or PREDICTION]
    predicted = predicted[
        given.notna().any(axis=1) if columns else given.notna()
    ]  # predict leaves them empty on errors
    names = (
        predicted[["image_id"]]
        if "image_id" in predicted
        else predicted.drop(columns=[*columns, PREDICTION], errors="ignore")
    )
    images = table.drop_duplicates("image_id")
    _, rows = column_of(ids_of(images), names, source)
    named = pd.Series(images["image_id"].to_numpy()[rows]).where(rows >= 0)
    is_test = named.isin(test["image_id"])
    if not is_test.any():
        raise DataError(
            f"expected predictions of test images in {source}, but all {len(named):,} are of others; name those of "
            f"this split"
        )
    doubled = named[is_test & named.duplicated()]
    if len(doubled):
        raise DataError(
            f"expected one prediction for each image in {source}, got several for {doubled.nunique():,}; leave one of "
            f"them:\n{first_cases(doubled.unique())}"
        )
    place = pd.Series(np.flatnonzero(is_test), index=named[is_test].to_numpy())
    at = test["image_id"].map(place)
    chosen = test[at.notna()]
    taken = predicted.iloc[at.dropna().to_numpy(np.int64)]
    labels = sorted(set(chosen["label"].astype(str)))
    known = sorted(set(table["label"].dropna().astype(str)))
    read = _of_columns(taken, columns, labels, known, source) if columns else _of_labels(taken, labels, known, source)
    classes, probs, mapped = read
    chosen = map_classes(chosen, classes, source)
    return _Predicted(
        chosen.drop(columns=["split", "group"], errors="ignore"),
        probs,
        classes,
        bool(columns) and not has_labels_only(predicted),
        int((~is_test).sum()),
        mapped,
    )


def _of_columns(
    predicted: pd.DataFrame, columns: Sequence[str], labels: Sequence[str], known: Sequence[str], source: str
) -> tuple[tuple[str, ...], FloatArray, str]:
    """The classes, the probabilities (N, C), and in words which classes of `columns` count as a true class.

    Probabilities of classes that are finer than the classes `known` of the data set are added up. `labels` are the true
    classes of the images.
    """
    column_of_class: dict[str, str] = {}
    for column in columns:
        name = column.removeprefix(PREFIX)
        name = class_of(name, known) or name
        if name in column_of_class:
            raise DataError(
                f"expected one column for each class in {source}, but {column_of_class[name]} and {column} are both "
                f"{name}; leave one of them"
            )
        column_of_class[name] = column
    cells = predicted[list(column_of_class.values())]
    probs = cells.apply(as_numbers).to_numpy(np.float64)
    bad = ~np.isfinite(probs).all(axis=1)
    if bad.any():
        rows = [f"row {number + 2}" for number in predicted.index[bad]]
        raise DataError(
            f"expected a number in each column {PREFIX}CLASS of {source}, but {int(bad.sum()):,} rows hold others; "
            f"correct or remove them:\n{first_cases(rows)}"
        )
    targets = map_predicted_classes(list(column_of_class), known)
    classes, sums = added_up(probs, list(column_of_class), targets)
    _check_true_classes(classes, labels, columns, source)
    return classes, sums, added_in_words(targets)


def _check_true_classes(classes: Sequence[str], labels: Sequence[str], columns: Sequence[str], source: str) -> None:
    """Checks that images of at least two classes are left, or of one if there is no other.

    Raises:
        DataError: there are fewer, because the other `labels` belong to none of `classes`.
    """
    found = {label: taxonomy.map_label(label, classes, labels) for label in labels}
    lacking = [label for label, target in found.items() if target is None]
    if lacking and len({*found.values()} - {None}) < 2:
        is_binary = all({True, False} <= set(map(taxonomy.malignancy, names)) for names in (classes, labels))
        remedy = ", or set task.target=malignant to tell malignant from benign alone" if is_binary else ""
        raise DataError(
            f"expected a column {PREFIX}CLASS for the class of each test image in {source}, got {', '.join(columns)}, "
            f"without {', '.join(lacking)}, so that images of fewer than two classes are left; add these columns"
            f"{remedy}"
        )


def _of_labels(
    predicted: pd.DataFrame, labels: Sequence[str], known: Sequence[str], source: str
) -> tuple[tuple[str, ...], FloatArray, str]:
    """The classes, 1 for the predicted class of each image and 0 for the others (N, C), and in words which predicted
    labels count as a true class.

    The classes are those of `classes_of_labels`, for images of the true `labels` in a data set of the classes `known`.
    """
    named = predicted[PREDICTION].astype(str)
    found = map_predicted_labels(named.unique().tolist(), known)
    strange = [name for name, target in found.items() if target is None]
    if strange:
        raise DataError(
            f"expected classes of the data set ({', '.join(known)}) or the taxonomy in the column {PREDICTION} of "
            f"{source}, got {', '.join(strange[:5])}{did_you_mean(strange[0], known)}; write the names of the classes"
        )
    classes = classes_of_labels({str(target) for target in found.values()}, labels, known)
    probs = np.eye(len(classes))[pd.Index(classes).get_indexer(pd.Index(named.map(found)))]
    return classes, probs, predicted_mapping_in_words(named, found, known)
