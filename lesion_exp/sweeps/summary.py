"""The state of a sweep, read from its ledger: as rows, JSON, a table for the terminal, markdown and HTML."""

from __future__ import annotations

import hashlib
import html
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from lesion_exp.fitted_table import FittedTable
from lesion_exp.next_command import key_and_value
from lesion_exp.progress import duration
from lesion_exp.sweeps.cell import PRUNED, STATUSES, UNFINISHED, Cell, CellState
from lesion_exp.sweeps.choices import Choices, best_means, group_cells, is_repeat
from lesion_exp.sweeps.ledger import Sweep
from lesion_exp.sweeps.plan import make_search
from lesion_exp.sweeps.search.search import AdaptiveSearch

_COLOURS = {"finished": "green", "running": "cyan", "queued": "dim", "failed": "bold red", "cancelled": "yellow"}


@dataclass(frozen=True)
class Row:
    """A row of the table: a cell."""

    number: int
    values: dict[str, str]
    """The values that it sets, by the keys in which cells differ."""
    state: CellState
    epoch: tuple[int, int] | None
    """Completed epochs and the number of all epochs."""
    metrics: dict[str, float]
    """The metrics of the search: of the best epoch in a finished cell, of the last one in a running cell."""

    @property
    def run_id(self) -> str | None:
        """The run of the cell."""
        return self.state.run_id


@dataclass(frozen=True)
class Summary:
    """The state of a sweep at one time."""

    sweep: Sweep
    rows: tuple[Row, ...]
    metrics: tuple[str, ...]
    directions: tuple[str, ...]
    total: int
    """The number of cells, including those that are still to be added."""

    def counts(self) -> dict[str, int]:
        """Returns the number of cells by status."""
        found = [row.state.status for row in self.rows]
        counted: dict[str, int] = {status: found.count(status) for status in STATUSES if status in found}
        if self.total > len(self.rows):
            rest = "cancelled" if self.sweep.cancel_file.exists() else "queued"
            counted[rest] = counted.get(rest, 0) + self.total - len(self.rows)
        return counted

    @cached_property
    def choices(self) -> Choices:
        """The finished cells, grouped by everything that they set except seeds and folds."""
        skips = self.sweep.facts.skip_bad_images
        return group_cells(self._finished(), self.metrics, self.directions, skip_bad_images=skips)

    def best(self) -> Row | None:
        """Returns the cell of the choice with the best mean, if it has one cell: a single seed or fold is no choice.

        It is None for several metrics, too (see `best_rows`).
        """
        found = self.best_rows()
        return found[0] if len(found) == 1 and len(self.metrics) == 1 else None

    def best_rows(self) -> list[Row]:
        """All cells of the best choice, or for several metrics of the Pareto front."""
        numbers = {number for choice in self.choices.front for number in choice.cells}
        return [row for row in self.rows if row.number in numbers]

    def best_values(self) -> dict[str, float]:
        """Returns the best mean of each metric over the choices, which are not compared with one another for it.

        If only seeds or folds differ, it is the mean of all cells.
        """
        return best_means(self._finished(), self.metrics, self.directions)

    def _finished(self) -> list[Row]:
        return [row for row in self.rows if row.state.status == "finished"]

    def _repr_html_(self) -> str:
        return as_html(self)

    def seconds_left(self) -> float | None:
        """Returns an estimate from the durations of finished and running cells.

        Returns None before the first cell has finished.
        """
        spans = [row.state.ended - row.state.started for row in self.rows
                 if row.state.status == "finished" and row.state.started and row.state.ended]  # fmt: skip
        running = [row for row in self.rows if row.state.status == "running"]
        if not spans or not running:
            return None
        usual, now = sum(spans) / len(spans), time.time()
        waiting = self.counts().get("queued", 0)
        rest = sum(max(0.0, usual - (now - (row.state.started or now))) for row in running)
        return (rest + waiting * usual) / len(running)


class KnownRows:
    """The rows of a sweep as they were read last, for the process that drives it and starts its cells.

    That process knows which cells may have changed. It reads these again, and no others, so that a cell costs as much
    in a sweep of a thousand cells as in one of ten.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep, self._search = sweep, make_search(dict(sweep.facts.search))
        self._rows: dict[int, Row] = {}
        self._ended: set[int] = set()
        for cell in sweep.cells():
            self.read(cell)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def __getitem__(self, number: int) -> Row:
        return self._rows[number]

    @property
    def num_ended(self) -> int:
        """The number of cells that are neither queued nor running."""
        return len(self._ended)

    def read(self, cell: Cell) -> Row:
        """Reads a cell that may have changed, or that is new, and returns its row."""
        row = self._rows[cell.number] = _row(cell, self._search.metrics)
        if row.state.status in UNFINISHED:
            self._ended.discard(cell.number)
        else:
            self._ended.add(cell.number)
        return row

    def summary(self) -> Summary:
        """Returns the state of the sweep according to the known rows."""
        rows, search = tuple(self._rows.values()), self._search
        total = len(rows)
        if isinstance(search, AdaptiveSearch) and not self._sweep.exhausted_file.exists():
            total = max(total, search.most_cells())
        return Summary(self._sweep, rows, tuple(search.metrics), tuple(search.directions), total)


def summarize(sweep: Sweep) -> Summary:
    """Reads the current state of `sweep` from its ledger."""
    return KnownRows(sweep).summary()


def _row(cell: Cell, metrics: Sequence[str]) -> Row:
    overrides, _ = cell.facts()
    values = dict(map(key_and_value, overrides))
    state, epochs = cell.state(), cell.epochs()
    state = replace(state, run_id=state.run_id or cell.begun_run())
    last = epochs[-1] if epochs else None
    if state.status == "finished":
        found = {name: state.metrics[f"best/{name}"] for name in metrics if f"best/{name}" in state.metrics}
    else:
        found = {name: last[name] for name in metrics if name in last} if last else {}
    return Row(cell.number, values, state, (last["epoch"], last["max_epochs"]) if last else None, found)


def digest(summary: Summary) -> str:
    """Returns a digest (16 digits) of the states of all cells; another attempt at any of them changes it."""
    states = [(row.number, row.state.status, row.state.attempts, row.state.run_id) for row in summary.rows]
    return hashlib.sha256(json.dumps([states, summary.counts()]).encode()).hexdigest()[:16]


def as_json(summary: Summary) -> dict[str, Any]:
    """Returns the object that `sweep status --json` prints."""
    facts, best, choices = summary.sweep.facts, summary.best(), summary.choices
    return {
        "sweep_id": facts.sweep_id,
        "parent_run_id": facts.parent_run_id,
        "overrides": list(facts.overrides),
        "metric": list(summary.metrics),
        "direction": list(summary.directions),
        "counts": summary.counts(),
        "total": summary.total,
        "seconds_left": summary.seconds_left(),
        "choices": choices.as_json(),
        "verdict": choices.conclusion() or None,
        "best_choice": dict(choices.front[0].values) if choices.front and len(summary.metrics) == 1 else None,
        "best_cell": None if best is None else best.number,
        "pareto": [row.number for row in summary.best_rows()] if len(summary.metrics) > 1 else None,
        "cells": [
            {
                "cell": row.number,
                "overrides": row.values,
                "status": row.state.status,
                "attempts": row.state.attempts,
                "host": row.state.host,
                "started": row.state.started,
                "ended": row.state.ended,
                "run_id": row.state.run_id,
                "epoch": row.epoch[0] if row.epoch else None,
                "metrics": {**row.state.metrics} or row.metrics,
                "note": row.state.note,
                "error": row.state.error,
                "end_of_log": cell.end_of_log() if row.state.status == "failed" else None,
            }
            for row, cell in zip(summary.rows, summary.sweep.cells(), strict=False)
        ],
    }


def as_frame(summary: Summary) -> pd.DataFrame:
    """Returns a row for each cell, for the artifact `sweep/cells.csv`."""
    return pd.DataFrame(
        [
            {
                "cell": row.number,
                **row.values,
                "status": row.state.status,
                **{name: row.metrics.get(name) for name in summary.metrics},
                **{name: value for name, value in row.state.metrics.items() if name.startswith("test/")},
                "run_id": row.state.run_id,
                "attempts": row.state.attempts,
                "seconds": _span(row),
                "host": row.state.host,
                "note": row.state.note,
                "error": row.state.error,
            }
            for row in summary.rows
        ]
    )


def as_markdown(summary: Summary, most: int = 10) -> str:
    """Returns the choices with the best means first, for the run's description in MLflow."""
    header, lines = _choices(summary)
    text = "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *lines[:most]])
    more = f"\n\nThe best {most} of {len(lines)}." if len(lines) > most else ""
    return f"{_in_words(summary)}\n\n{text}{more}"


def as_html(summary: Summary) -> str:
    """Returns the choices with the best means first, for a notebook."""
    header, lines = _choices(summary)
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f"<p>{html.escape(_in_words(summary))}</p><table><tr>{heads}</tr>{rows}</table>"


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _in_words(summary: Summary) -> str:
    found, counted = summary.choices, ", ".join(f"{count} {status}" for status, count in summary.counts().items())
    first = f" The first {len(found.front)} are its Pareto front." if len(summary.metrics) > 1 and found.front else ""
    conclusion = f" {found.conclusion()}" if found.conclusion() else ""
    return f"A sweep of {_cells(summary.total)}: {counted}.{first}{conclusion}"


def _choices(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of choices: those on the front first, then by their means."""
    found = summary.choices
    front = [choice for choice in found.ranked if choice in found.front]
    ranked = [*front, *(choice for choice in found.ranked if choice not in found.front)]
    keys = [key for key in summary.sweep.facts.keys if not is_repeat(key)]
    lines = [
        [*(choice.values.get(key, "") for key in keys), *_results(summary, found.ranked.index(choice))]
        for choice in ranked
    ]
    return [*keys, *_columns(summary)], lines


def _columns(summary: Summary) -> list[str]:
    """The headers of the columns of `_results`."""
    if not summary.choices.are_repeated:
        return [f"{name}, best epoch" for name in summary.metrics]
    of = [f"{name}, " if len(summary.metrics) > 1 else "" for name in summary.metrics]
    each = [f"{name}{what}" for name in of for what in ("mean", "sd", "95% interval")]
    return ["runs", *each, *(["against the best"] if _is_ranked(summary) else [])]


def _results(summary: Summary, place: int) -> list[str]:
    """The results of a choice: the value of its only run, or mean, standard deviation and interval of each metric."""
    choice = summary.choices.ranked[place]
    results = [choice.results[name] for name in summary.metrics]
    if not summary.choices.are_repeated:
        return [_number(one.mean) for one in results]
    cells = [str(len(choice.cells))]
    for one in results:
        ends = f"{_number(one.low)} to {_number(one.high)}" if one.low is not None else ""
        cells += [_number(one.mean), _number(one.deviation), ends]
    return [*cells, *([summary.choices.against_best(choice)] if _is_ranked(summary) else [])]


def _is_ranked(summary: Summary) -> bool:
    return len(summary.metrics) == 1 and len(summary.choices.ranked) > 1


def as_table(summary: Summary) -> RenderableType:
    """Returns the tables that `sweep status` and the end of a sweep show: first the choices, then every cell."""
    parts: list[RenderableType] = []
    if summary.choices.are_repeated:
        over = ", ".join(summary.choices.repeated_by)
        title = Text(f"{', '.join(summary.metrics)} of the best epoch, over {over}", style="italic")
        parts = [title, _choices_table(summary), Text()]
    return Group(*parts, *_meaning_of_values(summary), _cells_table(summary), *_remarks(summary))


def _meaning_of_values(summary: Summary) -> list[Text]:
    """Says which epoch the values of the cells are of, if there are any."""
    valued = [row.state.status for row in summary.rows if row.metrics]
    finished = ["of the best epoch in finished cells"] if "finished" in valued else []
    others = ["of the last epoch in cells that have not finished"] if set(valued) - {"finished"} else []
    if not valued:
        return []
    return [Text(f"{', '.join(summary.metrics)} {', '.join([*finished, *others])}", style="italic")]


def _choices_table(summary: Summary) -> FittedTable:
    keys = [key for key in summary.sweep.facts.keys if not is_repeat(key)]
    columns = [name if name == "against the best" else f">{name}" for name in _columns(summary)]
    table = FittedTable(*keys, *columns, keys=len(keys))
    for place, choice in enumerate(summary.choices.ranked):
        table.add_row(*(choice.values.get(key, "") for key in keys), *_results(summary, place))
    return table


def _cells_table(summary: Summary) -> FittedTable:
    facts, marked = summary.sweep.facts, {row.number for row in _marked(summary)}
    metrics = (f">{name}" for name in summary.metrics)
    table = FittedTable(">cell", *facts.keys, "status", *metrics, ">time", "run")
    for row in summary.rows:
        table.add_row(
            str(row.number),
            *(row.values.get(key, "") for key in facts.keys),
            Text(_status(row), style=_COLOURS[row.state.status]),
            *(f"{_number(row.metrics.get(name))}{' *' if row.number in marked else ''}"
              for name in summary.metrics),
            "" if (span := _span(row)) is None else duration(span),
            (row.state.run_id or "")[:8],
        )  # fmt: skip
    return table


def _marked(summary: Summary) -> list[Row]:
    """The cells of the Pareto front for several metrics, or the best cell if every choice has one cell."""
    return summary.best_rows() if len(summary.metrics) > 1 or not summary.choices.are_repeated else []


def _remarks(summary: Summary) -> list[Text]:
    lines = [Text()]
    for row in summary.rows:
        if row.state.status == "failed":
            error = " ".join((row.state.error or "").split())
            lines.append(Text.assemble((f"cell {row.number} failed: ", "bold red"), error))
        elif row.state.note and row.state.note != PRUNED:
            lines.append(Text(f"cell {row.number}: {row.state.note}", style="dim"))
    counted = ", ".join(f"{count} {status}" for status, count in summary.counts().items())
    left = summary.seconds_left()
    rest = f"; about {duration(left)} left" if left is not None else ""
    lines.append(Text(f"{_cells(summary.total)}: {counted}{rest}"))
    if len(summary.metrics) == 1 and _marked(summary):
        lines.append(Text(f"* the best {summary.metrics[0]} of the finished cells"))
    if len(summary.metrics) > 1 and summary.best_rows():
        what = "the mean of no other choice" if summary.choices.are_repeated else "no other cell"
        lines.append(Text(f"* on the Pareto front: {what} is better in one metric and at least as good in the others"))
    if summary.choices.conclusion():
        lines.append(Text(summary.choices.conclusion()))
    for row in _marked(summary) if len(summary.metrics) > 1 else ():
        values = ", ".join(f"{name} {_number(row.metrics[name])}" for name in summary.metrics)
        text = " ".join(f"{key}={value}" for key, value in row.values.items())
        lines.append(Text(f"* cell {row.number} {values}: {text}"))
    return lines


def _status(row: Row) -> str:
    if row.state.status == "running" and row.epoch:
        return f"running {row.epoch[0]}/{row.epoch[1]}"
    return "finished, pruned" if row.state.note == PRUNED else row.state.status


def _span(row: Row) -> float | None:
    if row.state.started is None or row.state.status == "queued":
        return None
    return (row.state.ended or time.time()) - row.state.started


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
