"""The leak meter's reading in the terminal."""

from __future__ import annotations

import textwrap
from typing import Final

from rich.console import Console
from rich.text import Text

from lesion_exp.fitted_table import FittedTable
from lesion_exp.verbs.leakage.report import METRICS, LeakageReport, row_of

_WIDEST: Final = 100


def show_report(report: LeakageReport, console: Console) -> None:
    """Prints a table for each metric, and what they say."""
    width = min(console.width, _WIDEST)
    console.print(Text(textwrap.fill(report.heading(), width)))
    for name in METRICS:
        console.print()
        console.print(_table(report, name))
    console.print()
    for remark in report.remarks():
        console.print(Text(textwrap.fill(f"- {remark}", width, subsequent_indent="  ")))


def _table(report: LeakageReport, name: str) -> FittedTable:
    heads = ("image\nin train", "lesion\nin train", "own\ntest", "clean\ntest", "inflation", "95% interval")
    table = FittedTable("split", *(f">{head}" for head in heads), title=name.replace("_", " "))
    for arm in report.arms:
        if name in arm.scores:
            table.add_row(*row_of(arm, arm.scores[name]))
    return table
