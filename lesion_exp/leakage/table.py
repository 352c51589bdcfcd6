"""The leak meter's reading in the terminal."""

from __future__ import annotations

import textwrap
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lesion_exp.leakage.report import METRICS, Report, row_of

_WIDEST: Final = 100


def show_report(report: Report, console: Console) -> None:
    """Prints a table for each metric, and what they say."""
    width = min(console.width, _WIDEST)
    console.print(Text(textwrap.fill(report.heading(), width)))
    for name in METRICS:
        console.print()
        console.print(_table(report, name))
    console.print()
    for remark in report.remarks():
        console.print(Text(textwrap.fill(f"- {remark}", width, subsequent_indent="  ")))


def _table(report: Report, name: str) -> Table:
    table = Table(title=name.replace("_", " "), title_justify="left", title_style="bold", header_style="bold")
    table.box, table.padding, table.show_edge = box.SIMPLE_HEAD, (0, 1, 0, 0), False
    table.add_column("split", no_wrap=True)
    for heading in ("image\nin train", "lesion\nin train", "own\ntest", "clean\ntest", "buys", "95% interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for arm in report.arms:
        if name in arm.scores:
            table.add_row(*row_of(arm, arm.scores[name]))
    return table
