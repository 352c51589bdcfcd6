"""What each choice came to over its seeds and folds, and runs that join cells: pooled folds, ensembles."""

from __future__ import annotations

from lesion_exp.tracking.find import runs_where
from lesion_exp.trained_runs.wording import NONE, Value, interval, listed, number, staged_metric_name
from lesion_exp.verbs.report.blocks import Block, Cell, Section, Table, Text
from lesion_exp.verbs.report.swept import TEST, Swept

_HOW = (
    "Cells that differ in seed or fold alone are repeats of one choice. The standard deviation is that of the repeats "
    "(of several splits: of their means). The 95% interval of a mean supposes that the repeats of all choices vary "
    "equally; it tells what other seeds would come to on the same images. Choices are compared by Tukey's test, which "
    "allows for choosing the best of them."
)


def repeats(swept: Swept) -> Section:
    """The section on choices and their repeats."""
    blocks = [*_by_choice(swept), *_joined(swept)]
    none = Text("No finished cells differ in seed or fold alone, and no run of the store joins cells of this sweep.")
    return Section("repeats", "Results by choice", blocks or [none])


def _by_choice(swept: Swept) -> list[Block]:
    found = swept.choices
    if not found.are_repeated:
        return []
    rows: list[list[Cell]] = []
    names = list(dict.fromkeys(name for choice in found.ranked for name in choice.results))
    is_several = len(names) > 1
    for choice in found.ranked:
        for name, result in choice.results.items():
            told = found.told_apart(choice) if len(swept.metrics) == 1 and name == swept.metrics[0] else ""
            rows.append([
                choice.text, *([staged_metric_name(name)] if is_several else []), str(result.runs),
                number(result.mean, 4), number(result.deviation, 4),
                interval(Value(result.mean, result.low, result.high)), told or NONE,
            ])  # fmt: skip
    columns = ["choice", *(["metric"] if is_several else []), ">runs", ">mean", ">sd", ">95% interval of the mean",
               "against the best mean"]  # fmt: skip
    what = "" if is_several else f": {staged_metric_name(names[0])}"
    caption = f"Each choice over its repeats ({listed(found.repeated_by)}), the best mean first{what}"
    return [Table(caption, columns, rows), Text(_HOW)]


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
