"""Examines everything that a run needs, and shows it as a list with a remedy for each fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from lesion_exp.config.project import Project
from lesion_exp.terminal import wrapped
from lesion_exp.verbs.doctor.check_result import CheckResult
from lesion_exp.verbs.doctor.installation import installation
from lesion_exp.verbs.doctor.machine import machine, processors
from lesion_exp.verbs.doctor.storage import data_set, storage

_MARKS: Final = {"ok": ("ok", "green"), "note": ("note", "yellow"), "problem": ("PROBLEM", "bold red")}
_INDENT: Final = 9


def examine(config: Mapping[str, Any], project: Project, *, with_data: bool) -> Iterator[CheckResult]:
    """What was found about the installation, the machine, the folders and store of `project`, and the data set.

    What takes the imports of MLflow and torch, which are seconds, comes after the rest.

    Args:
        config: of a whole job; its nodes `trainer` and `dataset` are read.
        project: the project whose folders are examined.
        with_data: whether the table of the data set is read.
    """
    yield from installation()
    yield from machine()
    yield from storage(project)
    yield from processors(config["trainer"])
    if with_data:
        yield from data_set(config)


def show(result: CheckResult, shown: Console) -> None:
    """Prints one result, with its remedy below it."""
    mark, style = _MARKS[result.state]
    lines = wrapped(f"{result.name}: {result.text}", shown.width - _INDENT).split("\n")
    shown.print(Text(f"{mark:<{_INDENT}}", style) + Text(f"\n{'':{_INDENT}}".join(lines)))
    if result.remedy:
        lines = wrapped(f"-> {result.remedy}", shown.width - _INDENT).split("\n")
        shown.print(Text("\n".join(f"{'':{_INDENT}}{line}" for line in lines)))


def in_words(results: list[CheckResult]) -> str:
    """Returns the numbers of results in one line."""
    counts = Counter(result.state for result in results)
    numbers = (f"{counts[state]} {state}{'' if counts[state] == 1 else 's'}" for state in ("problem", "note"))
    return f"{len(results)} checks: {', '.join(numbers)}"
