"""A comparison as tables for terminals of at least 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from lesion_exp.evaluation.comparison import (
    SIGNIFICANT,
    Comparison,
    Difference,
    Pair,
)
from lesion_exp.evaluation.lesion_counts import TOO_FEW
from lesion_exp.evaluation.registry import LOWER, shown_in
from lesion_exp.fitted_table import FittedTable
from lesion_exp.split import PARTS
from lesion_exp.trained_runs.wording import listed
from lesion_exp.verbs.compare.comparison_report import ComparisonReport, disagreement, method, p_text

_WIDE: Final = 100
"""The number of columns from which tables show more."""
_MOST_PAIRS: Final = 3
"""If there are more pairs, each is shown in one line."""
_DIFFERS: Final = "Differences between the configs"
_CLASS_FAMILIES: Final = ("recall", "auroc", "f1")
"""Metrics of each class in the table of a pair; the last one on wide terminals alone."""


def show_report(report: ComparisonReport, console: Console, *, every_pair: bool = False) -> None:
    """Prints the comparison; the tables of each pair only for up to three pairs, or with `every_pair`."""
    found = report.comparison
    console.print(
        f"[bold]Comparison on the {PARTS[report.part]} part[/]: "
        f"{found.num_images:,} images of {found.counted(found.num_lesions)}"
    )
    for job in report.jobs:
        ids = ", ".join(run.run_id[:8] for run in job.runs)
        named = Text.assemble((f"{job.letter}  ", "bold cyan"), job.title, (f"  ({ids})", "dim"))
        console.print(Padding(named, (0, 0, 0, 2)))
    for note in report.notes:
        console.print(Padding(Text.assemble(("! ", "bold yellow"), (note, "yellow")), (0, 0, 0, 2)))
    with_tables = every_pair or len(found.pairs) <= _MOST_PAIRS
    tables = [_jobs_table(found)]
    tables += [] if with_tables else [_pairs_table(found, name) for name in (*shown_in("headline"), *found.added)]
    for table in tables:
        console.print()
        console.print(table)
    for number, pair in enumerate(found.pairs):
        words = Text.assemble((f"{pair.first} - {pair.second}: ", "bold"), report.verdict(pair))
        if with_tables or not number:
            console.print()
        console.print(words)
        if with_tables:
            overall = _metrics_table(pair, found.overall(), console.width)
            families = _CLASS_FAMILIES if console.width >= _WIDE else _CLASS_FAMILIES[:-1]
            for table in (overall, _classes_table(pair, found.class_images, families)):
                console.print()
                console.print(table)
            if further := _further_classes(pair, found.class_images, families):
                console.print(Text(f"distinguishable as well: {further}"))
    if report.config_differences:
        console.print()
        console.print(_config_table(report, console))
    without = [job.letter for job in report.jobs if not job.has_network]
    if without:
        verb = "has" if len(without) == 1 else "have"
        console.print(Text(f"{listed(without)} {verb} no config of a network.", "dim"))
    console.print()
    _show_methods(report, console, with_tables)


def _jobs_table(found: Comparison) -> FittedTable:
    repeated = any(group.deviation(name) is not None for group in found.groups for name in group.values)
    heads = (">mean", ">sd of seeds") if repeated else (">value",)
    table = FittedTable("metric", "job", *heads, "|95% interval", title="Metrics of each job")
    for name in (*shown_in("headline"), *found.added):
        for number, group in enumerate(group for group in found.groups if name in group.values):
            value, deviation = group.values[name], group.deviation(name)
            spread = ["" if deviation is None else f"{deviation:.3f}"] if repeated else []
            ends = f"{value.low:.3f} to {value.high:.3f}"
            interval = ", ".join(filter(None, [ends, found.too_few(name)]))
            table.add_row("" if number else name, group.letter, f"{value.value:.3f}", *spread, interval)
    return table


def _config_table(report: ComparisonReport, console: Console) -> FittedTable:
    """A table with a column for each job if there is room, else with a line for each value and its jobs."""
    rows = {
        key: {letter: _short(key, value) for letter, value in values.items()}
        for key, values in report.config_differences.items()
    }
    table = FittedTable("key", *(job.letter for job in report.jobs), title=_DIFFERS)
    for key, values in rows.items():
        table.add_row(key, *values.values())
    if table.width() <= console.width:
        return table
    table = FittedTable("key", "jobs", "value", title=_DIFFERS)
    for key, values in rows.items():
        for number, value in enumerate(dict.fromkeys(values.values())):
            letters = " ".join(letter for letter, other in values.items() if other == value)
            table.add_row("" if number else key, letters, value)
    return table


def _short(key: str, value: str | None) -> str:
    if value is None:
        return "-"
    if key.endswith("_target_"):
        return value.rpartition(".")[2]
    return ", ".join(part[:8] for part in value.split(", ")) if key.startswith("tag ") else value


def _pairs_table(found: Comparison, name: str) -> FittedTable:
    table = FittedTable("pair", ">difference", "|95% interval", ">p", "test", title=name)
    for pair in found.pairs:
        if name in pair.differences:
            difference = pair.differences[name]
            cells = (f"{pair.first} - {pair.second}", f"{difference.difference:+z.3f}", _interval(difference))
            table.add_row(*cells, _p(difference), difference.test, style=_style(difference))
    return table


def _metrics_table(pair: Pair, names: Sequence[str], width: int) -> FittedTable:
    further = [">p alone"] if width >= _WIDE else []
    header = ("metric", f">{pair.first}", f">{pair.second}", f">{pair.first} - {pair.second}")
    table = FittedTable(*header, "|95% interval", ">p", "test", *further)
    for name in names:
        if name in pair.differences:
            found = pair.differences[name]
            values = (f"{found.first:.3f}", f"{found.second:.3f}", f"{found.difference:+z.3f}", _interval(found))
            more = (p_text(found.p),)[: len(further)]
            table.add_row(name, *values, _p(found), found.test, *more, style=_style(found))
    return table


def _classes_table(pair: Pair, images: Mapping[str, int], families: Sequence[str]) -> FittedTable:
    header = (text for family in families for text in (f">{family}", "|95% interval"))
    table = FittedTable("class", ">images", *header, title=f"By class, {pair.first} - {pair.second}")
    for class_name, count in images.items():
        cells: list[Text | str] = []
        for family in families:
            found = pair.differences.get(f"{family}/{class_name}")
            star = "*" if found and found.significant else " "
            style = _style(found) if found else ""
            cells.append(Text(f"{found.difference:+z.3f}{star}" if found else "- ", style))
            cells.append(Text(_interval(found) if found else "", style))
        table.add_row(class_name, f"{count:,}", *cells)
    return table


def _further_classes(pair: Pair, images: Mapping[str, int], families: Sequence[str]) -> str:
    """The significant differences of classes that the table of classes has no column for, which the verdict names."""
    shown = {f"{family}/{name}" for family in families for name in images}
    others = {name: found for name, found in pair.differences.items() if name.partition("/")[2] in images}
    return "; ".join(
        f"{name} {found.difference:+z.3f} ({_interval(found)})"
        for name, found in others.items()
        if found.significant and name not in shown
    )


def _show_methods(report: ComparisonReport, console: Console, with_tables: bool) -> None:
    found = report.comparison
    lower = [name for name in found.overall() if found.is_lower_better(name)]
    lines = [
        *(f"{name}: {method(name, found)}" for name in report.methods()),
        f"p: {method('p_corrected', found)}; * below {SIGNIFICANT}",
        *(["p alone: of this metric, if it were the only one"] if with_tables and console.width >= _WIDE else []),
        f"intervals: {method('interval', found)}; {report.draws:,} draws",
        *([f"intervals and p: {differing}"] if (differing := disagreement(found.pairs)) else []),
        *([f"{', '.join(lower)}: {LOWER}"] if lower else []),
    ]
    if not with_tables:
        lines.append("The tables of each pair are in compare/comparison.txt of the run.")
    for line in lines:
        console.print(Text(line, "dim"))


def _interval(found: Difference) -> str:
    """The interval, or `too few (n=3)`."""
    if found.test == TOO_FEW:
        return f"{TOO_FEW} (n={found.lesions})"
    return f"{found.low:+z.3f} to {found.high:+z.3f}"


def _p(found: Difference) -> str:
    return f"{p_text(found.p_corrected)}{'*' if found.significant else ' '}"


def _style(found: Difference) -> str:
    return "bold green" if found.significant else "dim" if found.test == TOO_FEW else ""
