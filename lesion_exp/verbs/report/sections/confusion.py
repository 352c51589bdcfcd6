"""Which classes are taken for which."""

from __future__ import annotations

import numpy as np

from lesion_exp.evaluation.report import confusion_counts
from lesion_exp.split import PARTS
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.wording import counted, percent
from lesion_exp.verbs.report.blocks import Matrix, Section, Text, not_stored


def confusion(facts: RunSummary) -> Section:
    """The section with the confusion matrix."""
    table, title = facts.predictions, "Confusion matrix"
    if table is None:
        return Section("confusion", title, [not_stored("predictions of the validation or the test part")])
    counts = confusion_counts(table)
    part = f"{PARTS[facts.part or 'val'].capitalize()} part, {counted(len(table), 'image')}"
    caption = f"{part}: true class by row, predicted class by column"
    matrix = Matrix(caption, facts.classes, counts.tolist())
    blocks = [Text(words) for words in [most_frequent_confusions(facts)] if words]
    return Section("confusion", title, [*blocks, matrix])


def most_frequent_confusions(facts: RunSummary, most: int = 3) -> str | None:
    """The pairs of classes that account for most mistakes, in words; None where there is no mistake."""
    if facts.predictions is None:
        return None
    counts = confusion_counts(facts.predictions)
    wrong = counts - np.diag(np.diag(counts))
    if not wrong.sum():
        return None
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [np.unravel_index(place, wrong.shape) for place in order if wrong.flat[place]]
    words = [
        f"{facts.classes[row]} taken for {facts.classes[column]} ({wrong[row, column]:,})" for row, column in pairs
    ]
    share = percent(wrong.sum() / counts.sum())
    return f"{counted(wrong.sum(), 'image')} ({share}) were read wrongly, most often {', '.join(words)}."
