"""The paths of a run's artifacts, which no other module spells."""

from __future__ import annotations

from typing import Final

JOB: Final = "config/job.yaml"
OVERRIDES: Final = "config/overrides.txt"
MANIFEST: Final = "split/manifest.parquet"
AUDIT: Final = "split/audit.json"
SEEN_BEFORE: Final = "split/seen_before.parquet"
"""The images that the initial weights of the run have seen, in all earlier trainings."""
SEEN_IN_SPLIT: Final = "split/seen_before.json"
"""The images of the run's split that are among them."""
FLOW: Final = "dataset/flow.json"
CHARACTERISTICS: Final = "dataset/characteristics.json"
CLASSES_FIGURE: Final = "dataset/classes.png"
BATCH_FIGURE: Final = "dataset/batch.png"
PREVIEW_FIGURE: Final = "dataset/preview.png"
SWEEP_FACTS: Final = "sweep/sweep.json"
SWEEP_CELLS: Final = "sweep/cells.csv"
SWEEP_FIGURE: Final = "sweep/choices.png"
COMPARISON: Final = "compare/comparison"
COMPARISON_FIGURE: Final = "compare/differences.png"
EXPORT_CHECK: Final = "export/check"
STACKING: Final = "ensemble/stacking.json"
"""A fitted stacked ensemble, and the importance of its features."""
STACKING_COMPARED: Final = "ensemble/compared.json"
"""The differences between a stacked ensemble and its members."""
ENSEMBLE_OVERRIDES: Final = "ensemble/overrides.json"
"""The overrides of the command that evaluated an ensemble, beside the names of its runs and the method."""
IMPORTED: Final = "import/facts.json"
"""The source of the predictions of an imported run, and the images that were left out."""
LEAKAGE: Final = "leakage/leakage"
CLEAN_PREDICTIONS: Final = "evaluation/clean/predictions.parquet"
"""Predictions of the leak meter on the part that no network was trained on."""


def checkpoint(which: str = "best", ending: str = ".ckpt") -> str:
    """Returns the path of the checkpoint of the `best` or the `last` epoch."""
    return f"checkpoints/{which}{ending}"


def predictions(part: str) -> str:
    """Returns the path of the predictions table of `val` or `test`."""
    return f"predictions/{part}.parquet"


def confusion_matrix(part: str, ending: str) -> str:
    """Returns the path of the confusion matrix of a part, `.png` or `.json`."""
    return f"confusion_matrix/{part}{ending}"


def classification_report(part: str, ending: str) -> str:
    """Returns the path of the classification report of a part, `.txt` or `.json`."""
    return f"classification_report/{part}{ending}"


def curve(kind: str, part: str) -> str:
    """Returns the path of a curve of a part: `roc`, `pr` or `reliability`."""
    return f"curves/{kind}_{part}.png"


def evaluation(name: str) -> str:
    """Returns the path of the folder, or of a file, of the evaluation `name`: `val`, `test`, or one of other data."""
    return f"evaluation/{name}"


def environment(name: str) -> str:
    """Returns the path of a file about the machine, the packages or the code."""
    return f"environment/{name}"
