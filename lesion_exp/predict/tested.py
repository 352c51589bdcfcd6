"""What the test part of a run says of its network's calibration."""

from __future__ import annotations

import json

import pandas as pd

from lesion_exp.evaluation.calibration_effect import calibration_effect
from lesion_exp.evaluation.calibrator import METHODS, Calibrator, read_calibrator
from lesion_exp.evaluation.fitted import calibrator_path
from lesion_exp.evaluation.predictions import classes_of, known_rows
from lesion_exp.tracking.find import Run, fetch_artifact

_TEST = "predictions/test.parquet"


def tested_predictions(run: Run) -> pd.DataFrame | None:
    """The uncalibrated predictions of `run` on its test part; None where that was not predicted, or has no label."""
    path = fetch_artifact(run.store, run.run_id, run.artifact_uri, _TEST)
    table = None if path is None else known_rows(pd.read_parquet(path)).reset_index(drop=True)
    return None if table is None or table.empty else table


def kept_calibrators(run: Run) -> dict[str, Calibrator]:
    """The calibrations that `run` keeps, by their methods."""
    kept = {
        method: fetch_artifact(run.store, run.run_id, run.artifact_uri, calibrator_path(method)) for method in METHODS
    }
    return {
        method: read_calibrator(json.loads(path.read_text(encoding="utf-8")))
        for method, path in kept.items()
        if path is not None
    }


def calibration_warning(run: Run, method: str) -> str | None:
    """Says so where the calibration `method` makes the probabilities of the test part worse; None where it does not,
    or where nothing was tested.
    """
    table = None if method == "none" else tested_predictions(run)
    if table is None:
        return None
    classes = classes_of(table)
    fitting = {name: found for name, found in kept_calibrators(run).items() if found.classes == classes}
    effect = calibration_effect(table, method, fitting)
    return None if effect is None else effect.warning
