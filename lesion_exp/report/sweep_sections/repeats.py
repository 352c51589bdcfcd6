"""Cells that repeat each other, and runs that join cells: seeds, folds, ensembles."""

from __future__ import annotations

import statistics
from typing import Final

from lesion_exp.report.blocks import Block, Cell, Section, Table, Text
from lesion_exp.report.swept import TEST, Swept, SweptCell
from lesion_exp.report.wording import Value, interval, number, staged_metric_name
from lesion_exp.sweep.ledger import FOLD
from lesion_exp.tracking.find import runs_where

REPEATED: Final = ("seed", FOLD, "split.seed")
"""Keys that repeat a cell rather than change it."""


def repeats(swept: Swept) -> Section:
    """The section on repeats."""
    blocks = [*_spread(swept), *_joined(swept)]
    none = Text("No finished cells differ in seed or fold alone, and no run of the store joins cells of this sweep.")
    return Section("repeats", "Repeats and pooled results", blocks or [none])


def _spread(swept: Swept) -> list[Block]:
    rows: list[list[Cell]] = []
    for what, cells in _groups(swept).items():
        for name in (*swept.metrics, *TEST):
            found = [cell.metrics[name] for cell in cells if name in cell.metrics]
            if len(found) > 1:
                spread = (statistics.mean(found), statistics.stdev(found), min(found), max(found))
                rows.append([what, staged_metric_name(name), str(len(found)), *(number(value, 4) for value in spread)])
    columns = ["cells", "metric", ">runs", ">mean", ">sd", ">lowest", ">highest"]
    caption = "Cells that differ in seed or fold alone; the spread is that of training anew"
    return [Table(caption, columns, rows)] if rows else []


def _groups(swept: Swept) -> dict[str, list[SweptCell]]:
    groups: dict[str, list[SweptCell]] = {}
    if any(key in swept.keys for key in REPEATED):
        for cell in sorted(swept.finished, key=lambda cell: cell.number):
            what = " ".join(f"{key}={value}" for key, value in cell.values.items() if key not in REPEATED)
            groups.setdefault(what or "all", []).append(cell)
    return groups


def _joined(swept: Swept) -> list[Block]:
    ids = {cell.run_id for cell in swept.cells if cell.run_id}
    rows: list[list[Cell]] = []
    for run in runs_where(swept.parent.store, "tags.members != ''"):
        members = set(run.tags["members"].split(","))
        for name in TEST if members <= ids else ():
            if name in run.metrics:
                value = Value(run.metrics[name], run.metrics.get(f"{name}_low"), run.metrics.get(f"{name}_high"))
                what = f"{run.tags.get('ensemble', 'joined')} of {len(members)} cells"
                rows.append([what, staged_metric_name(name), number(value.value), interval(value), run.run_id[:8]])
    columns = ["joined", "metric", ">value", ">95% interval", "run"]
    return [Table("Cells judged as one by lesion-exp evaluate", columns, rows)] if rows else []
