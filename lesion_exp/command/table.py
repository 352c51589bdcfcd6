"""The verb `table`: the results of a sweep as a table for a paper."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lesion_exp.choices import BOOTSTRAP_UNITS, TABLE_FORMATS
from lesion_exp.command.arguments import Arguments, open_project
from lesion_exp.command.chosen_run import SWEEP, SWEEP_NAMES
from lesion_exp.errors import check_output
from lesion_exp.evaluation.registry import AUROC_MACRO, TEST, WATCHED
from lesion_exp.option import REQUIRED, KeyValues, Names, choice, file, option, whole
from lesion_exp.terminal import say

if TYPE_CHECKING:
    from lesion_exp.evaluation.intervals import Unit


@dataclass(frozen=True)
class TableOptions:
    """Which results are shown, and how."""

    sweep: str = option(REQUIRED, SWEEP, SWEEP_NAMES)
    rows: tuple[str, ...] = option(REQUIRED, Names("A,B", "backbone"), "keys whose values are the rows")
    columns: tuple[str, ...] = option((), Names("A,B", "loss"), "keys whose values are the columns; without it, none")
    metric: tuple[str, ...] = option(
        (f"{TEST}/{WATCHED}",),
        Names("A,B", f"{TEST}/{WATCHED},{TEST}/{AUROC_MACRO}"),
        "results of the test part (test/...) or of validation (val/...); each has its own column",
    )
    where: Mapping[str, str] = option(
        {},
        KeyValues(example="'{optimizer.lr: 0.001}'"),
        "values of keys that are neither rows nor columns: only cells with these are shown",
    )
    format: str = option(
        TABLE_FORMATS[0], choice(TABLE_FORMATS), "markdown, LaTeX (booktabs), or csv with a line a cell"
    )
    output: Path | None = option(None, file("table.tex"), "file to write; without it, standard output")
    digits: int = option(3, whole(1, 6, "3"), "decimals")
    unit: str | None = option(
        None,
        choice(BOOTSTRAP_UNITS),
        "what the paired test takes together; without it, patients if the runs were evaluated over patients",
        key="evaluation.bootstrap_unit",
    )
    draws: int = option(2000, whole(100, example="500"), "draws of the paired test", key="evaluation.bootstrap_draws")


def table(arguments: Arguments) -> int:
    """Prints the table, or writes it to a file and prints its path."""
    wanted = arguments.read(TableOptions)
    if wanted.output is not None:
        check_output(wanted.output)
    arguments.named_sweeps.append(wanted.sweep)
    project = open_project(arguments)
    from lesion_exp.sweeps.swept import find_swept
    from lesion_exp.verbs.table.paper_table import paper_table
    from lesion_exp.verbs.table.written import written

    swept = find_swept(project.store, project.sweeps, wanted.sweep)
    made = paper_table(
        swept,
        wanted.rows,
        wanted.columns,
        wanted.metric,
        where=wanted.where,
        draws=wanted.draws,
        unit=cast("Unit | None", wanted.unit),
    )
    text = written(made, wanted.format, wanted.digits)
    if wanted.output is None:
        print(text, end="")
    else:
        wanted.output.write_text(text, encoding="utf-8")
        print(wanted.output)
    for note in made.notes if wanted.format == "csv" else filter(None, [made.missing]):
        say(note, sys.stderr)
    return 0
