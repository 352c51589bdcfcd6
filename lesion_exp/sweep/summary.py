"""How a sweep stands, from its ledger alone: as rows, as one JSON object, as a table for the eyes, as markdown."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lesion_exp.sweep.cell import PRUNED, STATUSES, Cell, CellState
from lesion_exp.sweep.ledger import Sweep
from lesion_exp.sweep.plan import make_search
from lesion_exp.sweep.search.search import AdaptiveSearch, better

_COLOURS = {"finished": "green", "running": "cyan", "queued": "dim", "failed": "bold red", "cancelled": "yellow"}


@dataclass(frozen=True)
class Row:
    """A cell in the table."""

    number: int
    values: dict[str, str]
    """What it sets, by the keys in which cells differ."""
    state: CellState
    epoch: tuple[int, int] | None
    """Epochs done and to be done."""
    metrics: dict[str, float]
    """Those that the search looks at: of the best epoch in a finished cell, of the last one in a running cell."""


@dataclass(frozen=True)
class Summary:
    """A sweep at one moment."""

    sweep: Sweep
    rows: tuple[Row, ...]
    metrics: tuple[str, ...]
    directions: tuple[str, ...]
    total: int
    """Cells that there will be."""

    def counts(self) -> dict[str, int]:
        """Cells by their status."""
        found = [row.state.status for row in self.rows]
        counted: dict[str, int] = {status: found.count(status) for status in STATUSES if status in found}
        if self.total > len(self.rows):
            rest = "cancelled" if self.sweep.cancel_file.exists() else "queued"
            counted[rest] = counted.get(rest, 0) + self.total - len(self.rows)
        return counted

    def best(self) -> Row | None:
        """The finished cell with the best metric; None where there are several metrics: see `pareto`."""
        front = self.pareto()
        return front[0] if front and len(self.metrics) == 1 else None

    def pareto(self) -> list[Row]:
        """The finished cells that no other one beats: none is better in one metric and as good in the others.

        None where the cells are folds of one job, which are measured on different images.
        """
        if self.sweep.facts.are_folds:
            return []
        valued = [
            row
            for row in self.rows
            if row.state.status == "finished"
            and not any(math.isnan(row.metrics.get(name, math.nan)) for name in self.metrics)
        ]
        return [row for row in valued if not any(self._beats(other, row) for other in valued)]

    def best_values(self) -> dict[str, float]:
        """The best value of each metric that a finished cell reached."""
        front = self.pareto()
        return {
            name: (max if direction == "maximize" else min)(row.metrics[name] for row in front)
            for name, direction in zip(self.metrics, self.directions, strict=True)
            if front
        }

    def _beats(self, one: Row, other: Row) -> bool:
        pairs = [
            (direction, one.metrics[name], other.metrics[name])
            for name, direction in zip(self.metrics, self.directions, strict=True)
        ]
        return any(better(*pair) for pair in pairs) and not any(better(way, b, a) for way, a, b in pairs)

    def seconds_left(self) -> float | None:
        """An estimate from the cells that finished and the epochs of those that run; None before there is one."""
        spans = [row.state.ended - row.state.started for row in self.rows
                 if row.state.status == "finished" and row.state.started and row.state.ended]  # fmt: skip
        running = [row for row in self.rows if row.state.status == "running"]
        if not spans or not running:
            return None
        usual, now = sum(spans) / len(spans), time.time()
        waiting = self.counts().get("queued", 0)
        rest = sum(max(0.0, usual - (now - (row.state.started or now))) for row in running)
        return (rest + waiting * usual) / len(running)


def summarize(sweep: Sweep) -> Summary:
    """The sweep as its ledger shows it now."""
    search = make_search(dict(sweep.facts.search))
    rows = tuple(_row(sweep, cell, search.metrics) for cell in sweep.cells())
    total = max(len(rows), search.most_cells()) if isinstance(search, AdaptiveSearch) else len(rows)
    return Summary(sweep, rows, tuple(search.metrics), tuple(search.directions), total)


def _row(sweep: Sweep, cell: Cell, metrics: Sequence[str]) -> Row:
    overrides, _ = cell.facts()
    values = {text.lstrip("+").partition("=")[0]: text.partition("=")[2] for text in overrides}
    state, epochs = cell.state(), cell.epochs()
    last = epochs[-1] if epochs else None
    if state.status == "finished":
        found = {name: state.metrics[f"best/{name}"] for name in metrics if f"best/{name}" in state.metrics}
    else:
        found = {name: last[name] for name in metrics if name in last} if last else {}
    return Row(cell.number, values, state, (last["epoch"], last["max_epochs"]) if last else None, found)


def digest(summary: Summary) -> str:
    """Sixteen letters over how every cell stands; another attempt at any of them changes it."""
    stands = [(row.number, row.state.status, row.state.attempts, row.state.run_id) for row in summary.rows]
    return hashlib.sha256(json.dumps([stands, summary.counts()]).encode()).hexdigest()[:16]


def as_json(summary: Summary) -> dict[str, Any]:
    """The object that `sweep status --json` prints."""
    facts, best = summary.sweep.facts, summary.best()
    return {
        "sweep_id": facts.sweep_id,
        "parent_run_id": facts.parent_run_id,
        "overrides": list(facts.overrides),
        "metric": list(summary.metrics),
        "direction": list(summary.directions),
        "counts": summary.counts(),
        "total": summary.total,
        "seconds_left": summary.seconds_left(),
        "best_cell": None if best is None else best.number,
        "pareto": [row.number for row in summary.pareto()] if len(summary.metrics) > 1 else None,
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
    """A row a cell, for the artifact `sweep/cells.csv`."""
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
    """The best cells first, for the run's description in MLflow."""
    keys = summary.sweep.facts.keys
    sign = -1 if summary.directions[0] == "maximize" else 1
    front = {row.number for row in summary.pareto()}
    ranked = sorted(
        (row for row in summary.rows if summary.metrics[0] in row.metrics and row.state.status == "finished"),
        key=lambda row: (row.number not in front, sign * row.metrics[summary.metrics[0]]),
    )
    header = [*keys, *(f"{name}, best epoch" for name in summary.metrics)]
    cells = [
        [*(row.values.get(key, "") for key in keys), *(_number(row.metrics.get(name)) for name in summary.metrics)]
        for row in ranked[:most]
    ]
    text = "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *cells])
    counted = ", ".join(f"{count} {status}" for status, count in summary.counts().items())
    more = f"\n\nThe best {most} of {len(ranked)}." if len(ranked) > most else ""
    first = f" The first {len(front)} are its Pareto front." if len(summary.metrics) > 1 and front else ""
    return f"A sweep of {summary.total} cells: {counted}.{first}\n\n{text}{more}"


def as_table(summary: Summary) -> RenderableType:
    """The table that `sweep status` and the end of a sweep show."""
    facts, marked = summary.sweep.facts, {row.number for row in _marked(summary)}
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("cell", justify="right")
    for key in facts.keys:
        table.add_column(key, overflow="fold")
    table.add_column("status")
    for name in summary.metrics:
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("time", justify="right")
    table.add_column("run")
    for row in summary.rows:
        table.add_row(
            str(row.number),
            *(row.values.get(key, "") for key in facts.keys),
            Text(_status(row), style=_COLOURS[row.state.status]),
            *(f"{_number(row.metrics.get(name))}{' *' if row.number in marked else ''}"
              for name in summary.metrics),
            _duration(_span(row)),
            (row.state.run_id or "")[:8],
        )  # fmt: skip
    return Group(table, *_remarks(summary))


def _marked(summary: Summary) -> list[Row]:
    """The first of the best cells, or all of the Pareto front where there are several metrics."""
    return summary.pareto()[: 1 if len(summary.metrics) == 1 else None]


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
    rest = f"; about {_duration(left)} left" if left is not None else ""
    lines.append(Text(f"{summary.total} cells: {counted}{rest}"))
    if len(summary.metrics) > 1 and summary.pareto():
        lines.append(Text("* on the Pareto front: no other cell is better in one metric and as good in the others"))
    lines += _over_folds(summary)
    for row in _marked(summary):
        what = f"cell {row.number}" if len(summary.metrics) > 1 else "best"
        values = ", ".join(f"{name} {_number(row.metrics[name])}" for name in summary.metrics)
        text = " ".join(f"{key}={value}" for key, value in row.values.items())
        lines.append(Text(f"* {what} {values}: {text}"))
    return lines


def _over_folds(summary: Summary) -> list[Text]:
    if not summary.sweep.facts.are_folds:
        return []
    lines = []
    for name in summary.metrics:
        values = [row.metrics[name] for row in summary.rows if row.state.status == "finished" and name in row.metrics]
        if len(values) > 1:
            text = f"mean of {len(values)} folds: {name} {_number(statistics.mean(values))}"
            lines.append(Text(f"{text}, standard deviation {_number(statistics.stdev(values))}"))
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


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
