"""The table of a sweep's results as markdown, LaTeX or csv."""

from __future__ import annotations

import io

import pandas as pd

from lesion_exp.evaluation.registry import words_of
from lesion_exp.split import PARTS
from lesion_exp.text_table import write_csv
from lesion_exp.trained_runs.printed_table import Entry, PrintedTable
from lesion_exp.verbs.table.paper_table import PaperCell, PaperTable


def written(table: PaperTable, format: str, digits: int) -> str:  # noqa: A002
    """Returns `table` in the format markdown, latex or csv, with `digits` decimals."""
    if format == "csv":
        return _csv(table)
    printed = _printed(table, digits)
    return printed.latex() if format == "latex" else printed.markdown()


def _printed(table: PaperTable, digits: int) -> PrintedTable:
    heads = [(column, metric) for column in table.columns for metric in table.metrics]
    with_n = len({cell.runs for cell in table.cells.values()}) > 1
    titles = [
        ", ".join([*column, *([_title(metric)] if len(table.metrics) > 1 or not column else [])])
        for column, metric in heads
    ]
    rows = [
        [*map(Entry, row), *(_entry(table.cells.get((row, *head)), digits, with_n=with_n) for head in heads)]
        for row in table.rows
    ]
    about = f"{_title(table.metrics[0])} by {' and '.join((*table.row_keys, *table.column_keys))}"
    caption = table.notes if len(table.metrics) > 1 else (about, *table.notes)
    return PrintedTable([*table.row_keys, *titles], [rows], len(table.row_keys), caption)


def _title(metric: str) -> str:
    stage, _, name = metric.partition("/")
    return words_of(name) if stage in PARTS else metric


def _entry(cell: PaperCell | None, digits: int, *, with_n: bool) -> Entry:
    """The mean, its interval, and the number of runs if that differs between cells."""
    if cell is None:
        return Entry("-")
    has_ends = cell.low is not None and cell.high is not None
    ends = f" ({cell.low:.{digits}f} to {cell.high:.{digits}f})" if has_ends else ""
    return Entry(f"{cell.mean:.{digits}f}", f"{ends}{f', n = {cell.runs}' if with_n else ''}", cell.best)


def _csv(table: PaperTable) -> str:
    """A line for each cell and metric."""
    lines = []
    for (row, column, metric), cell in table.cells.items():
        numbers = (cell.mean, cell.low, cell.high, cell.deviation)
        ends = ["" if number is None else f"{number:.6f}" for number in numbers]
        lines.append([*row, *column, metric, *ends, str(cell.runs), str(cell.best).lower()])
    names = ("metric", "mean", "low", "high", "standard_deviation", "runs", "best")
    file = io.StringIO()
    write_csv(pd.DataFrame(lines, columns=[*table.row_keys, *table.column_keys, *names]), file)
    return file.getvalue()
