"""Measures several implementations in turn, so that other load of the machine affects all of them."""

from __future__ import annotations

import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Measure = Callable[[], float]


def take_turns(ways: Mapping[str, Measure], rounds: int) -> dict[str, list[float]]:
    """Runs each of `ways` in turn, `rounds` times, and returns what they measure."""
    values: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, measure in ways.items():
            print(f"round {number + 1}, {name} ...", file=sys.stderr)
            values[name].append(measure())
    return values


def summary(values: Mapping[str, list[float]]) -> dict[str, dict[str, Any]]:
    """The median and the spread (minimum, maximum) of each way."""
    return {
        name: {"median": statistics.median(found), "spread": [min(found), max(found)]} for name, found in values.items()
    }


def seconds_of(action: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def processor_seconds() -> float:
    """Seconds for which the ended children of this process have used a processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def processor_seconds_of(process: int) -> float:
    """Seconds for which the process with this id, which was not waited for yet, and its ended children have used a
    processor; NaN where there is no /proc."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return math.nan
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def with_processor(name: str, measure: Measure, kept: dict[str, list[float]]) -> Measure:
    """`measure`, which also adds the seconds of a processor that its child processes used to `kept`, under `name`."""

    def measured() -> float:
        before = processor_seconds()
        value = measure()
        kept.setdefault(name, []).append(processor_seconds() - before)
        return value

    return measured


def show(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Prints a table on standard error; all columns except the first are numbers."""
    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row)
    Console(file=sys.stderr).print(table)


def spread_of(entry: Mapping[str, Any], digits: int) -> str:
    """`least..greatest` of an entry of `summary`."""
    low, high = entry["spread"]
    return f"{low:.{digits}f}..{high:.{digits}f}"


def with_ends(values: Sequence[float], digits: int) -> str:
    """The median of measurements, with the least and the greatest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
