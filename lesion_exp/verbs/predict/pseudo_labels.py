"""Pseudo-labels: the predictions above a threshold, written as labels for the training of another run."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.archive import file_of
from lesion_exp.errors import ConfigError, DataError, check_choice
from lesion_exp.evaluation.calibrator import Calibrator
from lesion_exp.evaluation.predictions import PREFIX, classes_of, known_rows, probabilities
from lesion_exp.text_table import write_csv
from lesion_exp.tracking.stored_run import read_predictions
from lesion_exp.trained_runs.trained_run import TrainedRun, own_tta
from lesion_exp.verbs.predict.request import IDS, METADATA, PICTURES, PredictionRequest
from lesion_exp.verbs.predict.requested_images import RequestedImages

log = logging.getLogger(__name__)

DEFAULT: Final = 0.9
"""Smallest probability of a pseudo-label where none is chosen."""
LEAST_IMAGES: Final = 10
"""Smallest number of validation images from which the precision of a class is computed."""

Thresholds = Mapping[str, float | None]
"""Class -> smallest probability of its pseudo-labels; None: it gets none."""


def thresholds_of(
    request: PredictionRequest, opened: TrainedRun, calibrator: Calibrator | None, classes: tuple[str, ...]
) -> Thresholds:
    """The threshold of each class that `request` asks for.

    Raises:
        ConfigError: a class is unknown, or the validation predictions of the run do not belong to these probabilities.
    """
    if request.target_precision is not None:
        return _by_precision(request, opened, calibrator, classes)
    chosen = DEFAULT if request.threshold is None else request.threshold
    if not isinstance(chosen, Mapping):
        return dict.fromkeys(classes, float(chosen))
    for name in chosen:
        check_choice("a class in threshold", name, classes)
    return {name: float(chosen[name]) if name in chosen else None for name in classes}


def _by_precision(
    request: PredictionRequest, opened: TrainedRun, calibrator: Calibrator | None, classes: tuple[str, ...]
) -> Thresholds:
    if request.checkpoint != "best" or request.tta not in (None, own_tta(opened.run)):
        raise ConfigError(
            "expected the run's best weights and its own test-time augmentation for target_precision, which is found "
            "on its validation predictions; leave checkpoint= and tta= out, or set threshold="
        )
    table = known_rows(read_predictions(opened.run, "val"))
    probs = probabilities(table)
    if calibrator is not None:
        probs = calibrator.apply(probs)
    order = classes_of(table)
    predicted, confidence = np.asarray(order)[probs.argmax(axis=1)], probs.max(axis=1)
    right = predicted == table["label"].to_numpy()
    assert request.target_precision is not None
    found = {
        name: smallest_threshold(confidence[predicted == name], right[predicted == name], request.target_precision)
        for name in classes
    }
    without = [name for name, value in found.items() if value is None]
    if len(without) == len(classes):
        raise DataError(
            f"expected a class whose predictions reach a precision of {request.target_precision:g} on at least "
            f"{LEAST_IMAGES} validation images, but none does; set a smaller target_precision"
        )
    if without:
        log.warning(
            "no pseudo-label of %s: their predictions do not reach a precision of %g on at least %d validation images",
            ", ".join(without), request.target_precision, LEAST_IMAGES,
        )  # fmt: skip
    return found


def smallest_threshold(
    confidence: npt.NDArray[np.floating[Any]], right: npt.NDArray[np.bool_], target: float
) -> float | None:
    """The smallest of the confidences from which on upwards at least a share `target` is right; None if none is.

    At least `LEAST_IMAGES` must be at or above it.

    Args:
        confidence: float (N,).
        right: bool (N,), whether the prediction is right.
        target: in (0, 1].
    """
    order = np.argsort(-confidence, kind="stable")
    sorted_ones, precision = confidence[order], np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    last_of_equal = np.append(sorted_ones[1:] != sorted_ones[:-1], True)[: len(order)]
    enough = np.arange(1, len(order) + 1) >= LEAST_IMAGES
    good = np.flatnonzero(last_of_equal & enough & (precision >= target))
    return float(sorted_ones[good[-1]]) if len(good) else None


def write_pseudo_labels(
    path: Path, table: pd.DataFrame, images: RequestedImages, facts: Mapping[str, Any], thresholds: Thresholds
) -> dict[str, int]:
    """Writes the predictions at or above their thresholds as pseudo-labels; returns the number of each class.

    Args:
        path: a csv or parquet.
        table: the predictions, with a row for each image.
        images: the images, in the same order.
        facts: see `PredictionPlan.facts`.
        thresholds: of each class.
    """
    target = path.expanduser().absolute()
    classes = [name for name in thresholds if f"{PREFIX}{name}" in table]
    probs = table[[f"{PREFIX}{name}" for name in classes]].to_numpy(np.float64)
    confidence = np.where(table["prediction"].notna(), np.nan_to_num(probs, nan=0.0).max(axis=1), 0.0)
    limits = table["prediction"].map({name: limit for name, limit in thresholds.items() if limit is not None})
    # a csv has rounded probabilities, so that those at the threshold are compared with a tolerance
    chosen = (confidence >= limits.to_numpy(np.float64) - 1e-6) & table["prediction"].notna().to_numpy()
    known, read = images.known, images.table
    written = pd.DataFrame(
        {
            "image_id": known["image_id"].to_numpy(),
            "image_path": [_beside(locator, target.parent) for locator in read["image_path"]],
            "label": table["prediction"],
            "confidence": confidence.round(6),
            "run_id": facts["run_id"],
            "weights_hash": facts["weights_hash"],
            "calibration": facts["calibration"],
            "threshold": limits.astype(float).round(6),
            **{name: known[name].to_numpy() for name in (*IDS, *METADATA) if name in known},
            **{name: [_beside(at, target.parent) for at in read[name]] for name in PICTURES if name in read},
        }
    )[chosen]
    partial = target.with_name(f".{target.name}.part")
    write_csv(written, partial) if target.suffix.lower() == ".csv" else written.to_parquet(partial, index=False)
    partial.replace(target)
    counts = written["label"].value_counts()
    return {name: int(counts.get(name, 0)) for name in thresholds}


def _beside(locator: str | None, folder: Path) -> str | None:
    """A locator relative to `folder` if the file is below it, so that both can be moved together."""
    if not isinstance(locator, str):
        return None
    if not Path(file_of(locator)).is_relative_to(folder):
        return locator
    return os.path.relpath(file_of(locator), folder) + locator[len(file_of(locator)) :]
