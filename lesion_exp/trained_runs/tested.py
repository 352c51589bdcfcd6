"""What the test part of a run says of its network's calibration."""

from __future__ import annotations

import pandas as pd

from lesion_exp.evaluation.calibration_effect import calibration_effect
from lesion_exp.evaluation.predictions import classes_of, known_rows
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import Run
from lesion_exp.trained_runs.trained_run import kept_calibrators


def tested_predictions(run: Run) -> pd.DataFrame | None:
    """The uncalibrated predictions of `run` on its test part; None where that was not predicted, or has no label."""
    path = run.fetch(artifacts.predictions("test"))
    table = None if path is None else known_rows(pd.read_parquet(path)).reset_index(drop=True)
    return None if table is None or table.empty else table


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
