"""The paths of a run's artifacts, which no other module spells."""

from __future__ import annotations

from typing import Final

JOB: Final = "config/job.yaml"
OVERRIDES: Final = "config/overrides.txt"
MANIFEST: Final = "split/manifest.parquet"
AUDIT: Final = "split/audit.json"
SEEN_BEFORE: Final = "split/seen_before.parquet"
"""What the weights that the run started from had seen, in all trainings before."""
SEEN_IN_SPLIT: Final = "split/seen_before.json"
"""Which images of the run's split are among it."""
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
IMPORTED: Final = "import/facts.json"
"""Where the predictions of an imported run come from, and what was left out."""
LEAKAGE: Final = "leakage/leakage"
CLEAN_PREDICTIONS: Final = "evaluation/clean/predictions.parquet"
"""Predictions of the leak meter on the part that no network was trained on."""


def checkpoint(which: str = "best", ending: str = ".ckpt") -> str:
    """The checkpoint of the `best` or the `last` epoch."""
    return f"checkpoints/{which}{ending}"


def predictions(part: str) -> str:
    """The predictions table of `val` or `test`."""
    return f"predictions/{part}.parquet"


def confusion_matrix(part: str, ending: str) -> str:
    """The confusion matrix of a part, `.png` or `.json`."""
    return f"confusion_matrix/{part}{ending}"


def classification_report(part: str, ending: str) -> str:
    """The classification report of a part, `.txt` or `.json`."""
    return f"classification_report/{part}{ending}"


def curve(kind: str, part: str) -> str:
    """A curve of a part: `roc`, `pr` or `reliability`."""
    return f"curves/{kind}_{part}.png"


def evaluation(name: str) -> str:
    """The folder, or a file, of an evaluation: of `val` or `test`, or of other data or options, by name."""
    return f"evaluation/{name}"


def environment(name: str) -> str:
    """A file about the machine, the packages or the code."""
    return f"environment/{name}"
