"""What each choice of a sweep came to: a drawing of all cells, and a table by value."""

from __future__ import annotations

import statistics
from typing import Final

from lesion_exp.report.blocks import Cell, Figure, Figures, Legend, Section, Table, Text
from lesion_exp.report.parallel import Scale, number_scale, parallel, scale_of
from lesion_exp.report.swept import Swept
from lesion_exp.report.wording import NONE, listed, metric_name, number, staged_metric_name

_TITLE: Final = "What each choice came to"
_MOST_LINES: Final = 400
"""Cells of a drawing, the best of them."""
_MOST_VALUES: Final = 10
"""A key with more values than these, drawn from an interval for example, has no rows in the table."""


def choices(swept: Swept) -> Section:
    """The section on choices."""
    cells, name = swept.finished, swept.metrics[0]
    keys = [key for key in swept.keys if len({cell.values.get(key) for cell in cells}) > 1]
    if not keys:
        return Section("choices", _TITLE, [Text("No two finished cells differ in a key.")])
    measured = [f"{cell.metrics[name]:.6g}" for cell in cells]
    scales = [scale_of(key, [cell.values.get(key, NONE) for cell in cells]) for key in keys]
    lines = [
        ([*(cell.values.get(key, NONE) for key in keys), value], cell in swept.best)
        for cell, value in zip(cells, measured, strict=True)
    ]
    what = staged_metric_name(name)
    told = f"A line for each finished cell from {listed(keys)} to {what}; best: {cells[0].text}"
    drawing = parallel(
        told,
        [*scales, number_scale(metric_name(name.rpartition("/")[2]), [cell.metrics[name] for cell in cells], measured)],
        lines[:_MOST_LINES],
    )
    legend = [Legend("the best", 1), Legend("others", 0)]
    figure = Figure(drawing, "A line a cell, from what it sets to what it came to", legend)
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
