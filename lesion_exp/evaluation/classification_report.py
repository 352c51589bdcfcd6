"""The classification report of a predictions table, as text and as plain values."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from lesion_exp.evaluation.lesion_counts import TOO_FEW, lesion_counts
from lesion_exp.evaluation.limits import LEAST_LESIONS
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.predictions import IntArray, classes_of, predicted_classes, true_classes
from lesion_exp.evaluation.registry import HEADLINE, OF_A_CLASS, short_of

_MAX_NAME_WIDTH: Final = 26
"""Letters of a class name that leave room for the numbers in 80 columns."""
Intervals = Mapping[str, tuple[float, float]]


def confusion_counts(table: pd.DataFrame) -> IntArray:
    """Returns the confusion matrix, int64 (C, C), in class order: rows are true classes, columns predicted ones."""
    places = np.arange(len(classes_of(table)))
    found: IntArray = confusion_matrix(true_classes(table), predicted_classes(table), labels=places)
    return found


def confusion_matrix_data(table: pd.DataFrame) -> dict[str, Any]:
    """Returns the confusion matrix as plain values, for JSON."""
    return {"classes": list(classes_of(table)), "rows": "true", "counts": confusion_counts(table).tolist()}


def classification_report(
    table: pd.DataFrame,
    intervals: Intervals | None = None,
    names: Mapping[str, str] | None = None,
    unit: str = "lesion",
    added: Mapping[str, float] | None = None,
) -> tuple[str, dict[str, Any]]:
    """Returns the report as text of at most 80 columns and as plain values.

    Numbers that rest on fewer than `LEAST_LESIONS` lesions have a star in the text; the values list them in `too_few`.

    Args:
        table: predictions table.
        intervals: the 95% intervals of overall metrics, by name.
        names: the full name of each class.
        unit: what the intervals were computed over, lesion or patient.
        added: further metrics of the whole table, by name.
    """
    values, classes = metrics(table), classes_of(table)
    confusion = confusion_counts(table)
    counts = {name: int(number) for name, number in zip(classes, confusion.sum(axis=1), strict=True)}
    rests = lesion_counts(table)
    few = {
        name: [c for c in OF_A_CLASS if f"{c}/{name}" in values and rests.too_few(f"{c}/{name}")] for name in classes
    }
    intervals = intervals or {}
    by_class = {
        name: {"images": counts[name], "lesions": rests.classes[name][0], "too_few": few[name]}
        | {column: values[f"{column}/{name}"] for column in OF_A_CLASS if f"{column}/{name}" in values}
        for name in classes
    }
    overall = {name: values[name] for name in HEADLINE if name in values} | dict(added or {})
    data = {
        "images": len(table),
        "overall": overall,
        "intervals_95": {name: list(interval) for name, interval in intervals.items()},
        "classes": by_class,
        "names": dict(names or {}),
    }
    width = min(max(10, *map(len, classes)), _MAX_NAME_WIDTH)
    lines = [f"{'class':<{width}} {'images':>7}" + "".join(f"{column:>{_width(column)}}" for column in OF_A_CLASS)]
    for name in classes:
        numbers = {c: f"{by_class[name][c]:.3f}" if c in by_class[name] else "-" for c in OF_A_CLASS}
        marked = {c: f"{number}{'*' if c in few[name] else ' '}" for c, number in numbers.items()}
        cells = "".join(f"{number:>{_width(column)}}" for column, number in marked.items())
        title = name if len(name) <= width else name[: width - 1].rstrip() + "…"
        lines.append(f"{title:<{width}} {counts[name]:>7,}{cells}".rstrip())
    if any(few.values()):
        lines.append(f"* {TOO_FEW}: the number rests on fewer than {LEAST_LESIONS} lesions")
    never = [name for name, number in zip(classes, confusion.sum(axis=0), strict=True) if number == 0 and counts[name]]
    if never:
        words = f"never predicted, so that precision and F1 are 0 by definition: {', '.join(never)}"
        lines += textwrap.wrap(words, 80, break_on_hyphens=False)
    lines.append("")
    for name, value in overall.items():
        low, high = intervals.get(name, (None, None))
        interval = f"   95% interval {low:.3f} to {high:.3f}" if low is not None and high is not None else ""
        lines.append(f"{short_of(name):<26} {value:.3f}{interval}")
    if intervals:
        lines.append(f"(intervals: 95%, over {unit}s; docs/statistics.md says how each is made)")
    return "\n".join(lines) + "\n", data


def _width(column: str) -> int:
    return max(len(column), 5) + 2
