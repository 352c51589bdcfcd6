"""What each value of a choice came to: a drawing of all choices, and a table by value."""

from __future__ import annotations

import statistics
from typing import Final

from lesion_exp.evaluation.registry import words_of
from lesion_exp.trained_runs.wording import NONE, listed, number, staged_metric_name
from lesion_exp.verbs.report.blocks import Cell, Figure, Figures, Legend, Section, Table, Text
from lesion_exp.verbs.report.parallel import Scale, number_scale, parallel, scale_of
from lesion_exp.verbs.report.swept import Swept

_TITLE: Final = "What each value came to"
_MOST_LINES: Final = 400
"""Choices of a drawing, the best of them."""
_MOST_VALUES: Final = 10
"""A key with more values than these, drawn from an interval for example, has no rows in the table."""


def choices(swept: Swept) -> Section:
    """The section on the values of each key but seeds and folds."""
    found, name = swept.choices.ranked, swept.metrics[0]
    keys = [key for key in swept.choice_keys if len({choice.values.get(key) for choice in found}) > 1]
    if not keys:
        return Section("choices", _TITLE, [Text("No two finished cells differ in a key other than seed and fold.")])
    means = [choice.results[name].mean for choice in found]
    measured = [f"{mean:.6g}" for mean in means]
    scales = [scale_of(key, [choice.values.get(key, NONE) for choice in found]) for key in keys]
    lines = [
        ([*(choice.values.get(key, NONE) for key in keys), value], choice in swept.choices.front)
        for choice, value in zip(found, measured, strict=True)
    ]
    what = staged_metric_name(name)
    told = f"A line for each choice from {listed(keys)} to the mean {what}; best mean: {found[0].text}"
    drawing = parallel(
        told,
        [*scales, number_scale(words_of(name.rpartition("/")[2]), means, measured)],
        lines[:_MOST_LINES],
    )
    legend = [Legend("the best mean", 1), Legend("others", 0)]
    figure = Figure(drawing, "A line a choice, from what it sets to the mean that it came to", legend, wide=True)
    return Section("choices", _TITLE, [Figures([figure]), _by_value(swept, dict(zip(keys, scales, strict=True)))])


def _by_value(swept: Swept, scales: dict[str, Scale]) -> Table:
    name = swept.metrics[0]
    rows: list[list[Cell]] = []
    for key, scale in scales.items():
        for value in scale.places if len(scale.places) <= _MOST_VALUES else ():
            found = [cell.metrics[name] for cell in swept.finished if cell.values.get(key, NONE) == value]
            summed_up = (statistics.mean(found), min(found), max(found))
            rows.append([f"{key}={value}", str(len(found)), *(number(result, 4) for result in summed_up)])
    caption = f"{staged_metric_name(name)[:1].upper()}{staged_metric_name(name)[1:]} by value, over all other keys"
    return Table(caption, ["value", ">cells", ">mean", ">lowest", ">highest"], rows)
