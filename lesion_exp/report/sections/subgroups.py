"""For whom the network is how good."""

from __future__ import annotations

from lesion_exp.report.blocks import Block, Cell, Section, Table, Text, not_stored
from lesion_exp.report.facts import Facts
from lesion_exp.report.sections.results import share_bar
from lesion_exp.report.wording import NONE, as_value, listed, metric_name, stacked, with_interval, within

_HOW = (
    "Two subgroups are compared on the classes of which both have 20 lesions, each class with the same weight, so that "
    "another mix of classes makes no gap. The interval of a gap allows for all pairs that were compared in its metric: "
    "a gap is more than chance where the interval excludes 0."
)


def subgroups(facts: Facts) -> Section:
    """The section on subgroups."""
    found, title = facts.study("subgroups"), "Subgroups"
    if not found:
        remedy = f"lesion-exp evaluate run={facts.run.run_id[:8]} adds them." if facts.predictions is not None else ""
        return Section("subgroups", title, [not_stored("metrics of subgroups", remedy)])
    cells = found.get("cells", [])
    if not cells:
        return Section("subgroups", title, [Text("Neither age, sex, site, source nor skin tone is known.")])
    overall = found.get("overall", {})
    names = [name for name in overall if any(as_value(cell["metrics"].get(name)) for cell in cells)]
    intro = Text(
        f"Metrics that rest on fewer than {found.get('least_lesions', 20)} lesions are not shown. Balanced accuracies "
        f"go over the classes present in a subgroup, which may differ between two. The drawing shows the balanced "
        f"accuracy; its thin line is the whole part's."
    )
    return Section("subgroups", title, [intro, _cells(cells, overall, names), *_gaps(found.get("largest_gaps", []))])


def _cells(cells: list[dict], overall: dict, names: list[str]) -> Table:  # type: ignore[type-arg]
    reference = as_value(overall.get("balanced_accuracy"))
    rows: list[list[Cell]] = []
    for cell in cells:
        values = {name: as_value(cell["metrics"].get(name)) for name in names}
        bar = share_bar(values.get("balanced_accuracy"), reference.value if reference else None)
        told = [stacked(value) if value else "too few" for value in values.values()]
        group = f"{cell['attribute'].replace('_', ' ')}: {cell['group']}"
        rows.append([group, f"{cell['images']:,}", f"{cell['lesions']:,}", bar, *told])
    columns = ["subgroup", ">images", ">lesions", "0 to 1", *(f">{within(metric_name(name))}" for name in names)]
    return Table("Subgroups, with 95% intervals", columns, rows)


def _gaps(gaps: list[dict]) -> list[Block]:  # type: ignore[type-arg]
    rows: list[list[Cell]] = [
        [
            f"{gap['attribute'].replace('_', ' ')}, {within(metric_name(gap['metric']))}",
            f"{gap['highest']} against {gap['lowest']}",
            listed(gap.get("classes", [])) or NONE,
            with_interval(as_value(gap)),
        ]
        for gap in gaps
    ]
    if not rows:
        return [Text("No two subgroups have 20 lesions of one class, so none are compared.")]
    table = Table("Largest gaps between two subgroups", ["of", "between", "on the classes", ">difference"], rows)
    return [table, Text(_HOW)] if "pairs" in gaps[0] else [table]


def largest_gap(facts: Facts) -> str | None:
    """The largest gap of balanced accuracy in words; None where none is stored."""
    gaps = [gap for gap in facts.study("subgroups").get("largest_gaps", []) if gap["metric"] == "balanced_accuracy"]
    gaps = [gap for gap in gaps if as_value(gap)]
    if not gaps:
        return None
    gap = max(gaps, key=lambda found: found["value"])
    return (
        f"largest gap of balanced accuracy: {gap['attribute'].replace('_', ' ')}, {gap['highest']} against "
        f"{gap['lowest']}, {with_interval(as_value(gap))}"
    )
