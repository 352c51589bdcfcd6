"""The section on subgroups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from markupsafe import Markup

from lesion_exp.evaluation.lesion_counts import TOO_FEW
from lesion_exp.evaluation.limits import LEAST_LESIONS
from lesion_exp.evaluation.registry import short_of
from lesion_exp.evaluation.subgroups import missing_classes
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.wording import NONE, as_value, counted, listed, stacked, with_interval
from lesion_exp.verbs.report.blocks import Block, Cell, Section, Table, Text, not_stored
from lesion_exp.verbs.report.commands import command_on
from lesion_exp.verbs.report.sections.results import share_bar

FEWER: Final = "*"
"""The mark of a balanced accuracy over fewer classes than that of the whole part."""
NOT_COMPARED: Final = f"No two subgroups have {LEAST_LESIONS} lesions of one class, so none are compared."
_HOW: Final = (
    f"Two subgroups are compared on the classes of which both have {LEAST_LESIONS} lesions, with equal weights, so "
    "that other class frequencies cause no gap. The interval of a gap is corrected for all pairs that were compared in "
    "its metric: a gap is significant if its interval excludes 0."
)


def subgroups(facts: RunSummary) -> Section:
    """Returns the section on subgroups."""
    found, title = facts.evaluation_file("subgroups"), "Subgroups"
    if not found:
        command = command_on(facts, "evaluate", f"run={facts.run.run_id[:8]}")
        remedy = f"{command} adds them." if facts.predictions is not None else ""
        return Section("subgroups", title, [not_stored("metrics of subgroups", remedy)])
    cells = found.get("cells", [])
    if not cells:
        return Section("subgroups", title, [Text("Neither age, sex, site, source nor skin tone is known.")])
    overall = found.get("overall", {})
    names = [name for name in overall if any(as_value(cell["metrics"].get(name)) for cell in cells)]
    least = found.get("least_lesions", LEAST_LESIONS)
    intro = Text(f"Metrics that rest on fewer than {least} lesions are not shown.")
    if any(as_value(cell["metrics"].get("balanced_accuracy")) for cell in cells):
        intro = Text(
            f"{intro.text} The drawing shows the balanced accuracy; the thin line is that of the whole part. "
            f"{_averaged(found)}"
        )
    classes = found.get("classes", [])
    return Section(
        "subgroups", title, [intro, _cells(cells, overall, names, classes), *_gaps(found.get("largest_gaps", []))]
    )


def _averaged(found: Mapping[str, Any]) -> str:
    """A text on the classes over which each balanced accuracy is a mean, if the file has them."""
    classes = found.get("classes")
    if not classes:
        return "A balanced accuracy is the mean over the classes of a subgroup, which may differ between subgroups."
    fewer = [
        f"{_name(cell)} without {missing_classes(cell['classes'], classes)}"
        for cell in found["cells"]
        if len(cell["classes"]) < len(classes) and as_value(cell["metrics"].get("balanced_accuracy"))
    ]
    whole = f"Balanced accuracies are means over the {counted(len(classes), 'class')} of the whole part"
    if not fewer:
        return f"{whole}; every subgroup shown has images of all of them."
    return (
        f"{whole}. If a subgroup has no image of some classes, the mean is over the others; it is marked {FEWER} and "
        f"drawn without the thin line, because the two cannot be compared: {'; '.join(fewer)}."
    )


def _name(cell: Mapping[str, Any]) -> str:
    return f"{cell['attribute'].replace('_', ' ')}: {cell['group']}"


def _cells(cells: list[dict], overall: dict, names: list[str], classes: list[str]) -> Table:  # type: ignore[type-arg]
    reference = as_value(overall.get("balanced_accuracy"))
    rows: list[list[Cell]] = []
    for cell in cells:
        values = {name: as_value(cell["metrics"].get(name)) for name in names}
        texts: dict[str, Cell] = {name: stacked(value) if value else TOO_FEW for name, value in values.items()}
        bar = values.get("balanced_accuracy")
        has_fewer = bar is not None and len(cell.get("classes", classes)) < len(classes)
        if has_fewer:
            texts["balanced_accuracy"] = Markup("{} {}").format(FEWER, texts["balanced_accuracy"])
        drawn = share_bar(bar, reference.value if reference and not has_fewer else None)
        rows.append([_name(cell), f"{cell['images']:,}", f"{cell['lesions']:,}", drawn, *texts.values()])
    columns = ["subgroup", ">images", ">lesions", "0 to 1", *(f">{short_of(name)}" for name in names)]
    return Table("Subgroups, with 95% intervals", columns, rows)


def _gaps(gaps: list[dict]) -> list[Block]:  # type: ignore[type-arg]
    rows: list[list[Cell]] = [
        [
            f"{gap['attribute'].replace('_', ' ')}, {short_of(gap['metric'])}",
            f"{gap['highest']} against {gap['lowest']}",
            listed(gap.get("classes", [])) or NONE,
            with_interval(as_value(gap)),
        ]
        for gap in gaps
    ]
    if not rows:
        return [Text(NOT_COMPARED)]
    table = Table("Largest gaps between two subgroups", ["metric", "between", "on the classes", ">difference"], rows)
    return [table, Text(_HOW)] if "pairs" in gaps[0] else [table]
