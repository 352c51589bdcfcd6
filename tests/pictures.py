"""Runs without pictures."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lesion_exp.tracking.run_writer import RunWriter

DRAWING = (
    "lesion_exp.training.part_evaluation.confusion_matrix",
    "lesion_exp.training.part_evaluation.precision_recall_curves",
    "lesion_exp.training.part_evaluation.reliability_diagram",
    "lesion_exp.training.part_evaluation.roc_curves",
    "lesion_exp.training.results.class_distribution",
)
"""What draws the figures that are only logged; others are also asked for by verbs whose figures tests look at."""


@contextmanager
def unsaved_pictures() -> Iterator[None]:
    """Lets runs of this process draw pictures and log the words below each of them in its place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunWriter, "log_figure", lambda self, _, path, about: self.log_text(about, path))
        yield


@contextmanager
def without_pictures() -> Iterator[None]:
    """Lets runs of this process log the words below each picture in its place, without drawing most of them.

    Drawing takes longer than all else that the runs of most tests do.
    """
    with unsaved_pictures(), pytest.MonkeyPatch.context() as patch:
        for name in DRAWING:
            patch.setattr(name, lambda *_: None)
        yield
