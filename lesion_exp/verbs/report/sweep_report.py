"""The page of a sweep."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import yaml
from markupsafe import Markup

from lesion_exp.config.command_words import without_place
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.registry import words_of
from lesion_exp.sweeps.swept import FACTS, TEST, Swept, SweptCell
from lesion_exp.tracking.find import READS_TAG, find_run, runs_with_tag
from lesion_exp.tracking.stored_run import MEMBERS_TAG, members_of
from lesion_exp.trained_runs.run_summary import RunArtifacts, RunSummary
from lesion_exp.trained_runs.statements import headline
from lesion_exp.trained_runs.wording import (
    NONE,
    Value,
    counted,
    duration,
    interval,
    listed,
    moment,
    number,
    staged_metric_name,
)
from lesion_exp.verbs.report.blocks import (
    Block,
    Cell,
    Code,
    Figure,
    Figures,
    Legend,
    Note,
    Pairs,
    Section,
    Table,
    Text,
    not_stored,
)
from lesion_exp.verbs.report.charts import Scale, number_scale, parallel, scale_of
from lesion_exp.verbs.report.commands import command_on_sweep, data_words, placeholders, swept_by
from lesion_exp.verbs.report.page import Page
from lesion_exp.verbs.report.sections.calibration import calibration
from lesion_exp.verbs.report.sections.curves import curves
from lesion_exp.verbs.report.sections.galleries import failures
from lesion_exp.verbs.report.sections.question import QUESTION_TAG, RESEARCH_ONLY
from lesion_exp.verbs.report.sections.results import confusion, results
from lesion_exp.verbs.report.sections.subgroups import subgroups


def question(swept: Swept) -> Section:
    """Returns the first section: question, answer and the use of the test part."""
    counts = Counter(cell.status for cell in swept.cells)
    states = ", ".join(f"{count} {status}" for status, count in counts.items())
    blocks: list[Block] = [
        Text(swept.parent.tags.get(QUESTION_TAG) or _asked(swept), lead=True),
        Text(f"{counted(len(swept.cells), 'cell')}: {states}." if swept.cells else "There is no cell yet."),
        *_answer(swept),
        _readings(swept),
        Note(RESEARCH_ONLY),
    ]
    return Section("question", "The question", blocks)


def _asked(swept: Swept) -> str:
    if swept.are_folds:
        return "How well does one job perform, trained once for each fold of a cross-validation?"
    if swept.keys and not swept.choice_keys:
        return f"How well does one job perform, trained once for each {listed(swept.keys)}?"
    what = listed([staged_metric_name(name) for name in swept.metrics])
    choice = f"choice of {listed(swept.choice_keys)}" if swept.choice_keys else "cell"
    return f"Which {choice} has the best {what}?"


def _answer(swept: Swept) -> list[Block]:
    if not swept.finished:
        return [Note("No cell has finished: there is no result yet.")]
    if swept.are_folds:
        pooled = headline(RunSummary(swept.parent, RunArtifacts(swept.parent)))
        each = "Every image was predicted by the network of the fold that had not seen it."
        return [
            Text(f"{pooled} {each}" if pooled else "The folds are not evaluated together yet; see their mean below.")
        ]
    if len(swept.metrics) > 1 and swept.best:
        front = "; ".join(choice.text for choice in swept.choices.front)
        what = "for which no other choice is better in one metric and at least as good in the others"
        return [Text(f"The Pareto front, the choices {what}: {front}.")]
    chosen = (
        " It was chosen by the results on these images, so expect lower values on other images."
        if len(swept.choices.ranked) > 1
        else ""
    )
    verdict = swept.choices.conclusion()
    return [Text(f"{verdict}{chosen}")] if verdict else []


def _readings(swept: Swept) -> Block:
    readers = [cell for cell in swept.cells if any(name.startswith("test/") for name in cell.metrics)]
    if not readers:
        return Note("No cell evaluated the test part: all numbers here are validation results.", "good")
    noted = swept.parent.tags.get(READS_TAG)
    tag = f" ({READS_TAG} of the sweep: {noted})" if noted else ""
    return Note(
        f"{counted(len(readers), 'cell')} of this sweep read the test part{tag}. If a cell is chosen by test results, "
        f"its test results are too optimistic."
    )


_TITLE: Final = "Results by value"
_MOST_LINES: Final = 400
"""The largest number of choices in the drawing, which shows the best of them."""
_MOST_VALUES: Final = 10
"""A key with more values, such as one sampled from an interval, has no rows in the table."""


def choices(swept: Swept) -> Section:
    """Returns the section on the values of each key, except seeds and folds."""
    found, name = swept.choices.ranked, swept.metrics[0]
    keys = [key for key in swept.choice_keys if len({choice.values.get(key) for choice in found}) > 1]
    if not keys:
        return Section("choices", _TITLE, [Text("No two finished cells differ in a key other than seed and fold.")])
    means = [choice.results[name].mean for choice in found]
    measured = [f"{mean:.6g}" for mean in means]
    scales = [scale_of(key, [choice.values.get(key, NONE) for choice in found]) for key in keys]
    lines = [
        ([*(choice.values.get(key, NONE) for key in keys), value], choice in swept.choices.front)
        for choice, value in zip(found, measured, strict=True)
    ]
    what = staged_metric_name(name)
    description = f"A line for each choice from {listed(keys)} to the mean {what}; best mean: {found[0].text}"
    drawing = parallel(
        description,
        [*scales, number_scale(words_of(name.rpartition("/")[2]), means, measured)],
        lines[:_MOST_LINES],
    )
    legend = [Legend("the best mean", 1), Legend("others", 0)]
    figure = Figure(drawing, "A line for each choice, from its values to its mean", legend, wide=True)
    return Section("choices", _TITLE, [Figures([figure]), _by_value(swept, dict(zip(keys, scales, strict=True)))])


def _by_value(swept: Swept, scales: dict[str, Scale]) -> Table:
    name = swept.metrics[0]
    rows: list[list[Cell]] = []
    for key, scale in scales.items():
        for value in scale.places if len(scale.places) <= _MOST_VALUES else ():
            found = [cell.metrics[name] for cell in swept.finished if cell.values.get(key, NONE) == value]
            summed_up = (statistics.mean(found), min(found), max(found))
            rows.append([f"{key}={value}", str(len(found)), *(number(result, 4) for result in summed_up)])
    caption = f"{staged_metric_name(name)[:1].upper()}{staged_metric_name(name)[1:]} by value, over all other keys"
    return Table(caption, ["value", ">cells", ">mean", ">lowest", ">highest"], rows)


def cells(swept: Swept) -> Section:
    """Returns the section with the table of cells."""
    tested = [name for name in TEST if any(name in cell.metrics for cell in swept.cells)]
    measured = [*swept.metrics, *tested]
    columns = ["cell", *swept.keys, "status", *(f">{staged_metric_name(name)}" for name in measured), ">time", "run"]
    rows = [_row(cell, swept, measured) for cell in swept.cells]
    table = Table(
        "Every cell, with validation metrics of its best epoch; those of the best choice are bold", columns, rows
    )
    command = command_on_sweep(swept.facts, (), "report", "run=RUN")
    return Section("cells", "Cells", [table, Text(f"The command {command} makes the page of a cell.")])


def failed(swept: Swept) -> Section:
    """Returns the section with the errors of failed cells."""
    blocks: list[Block] = []
    for cell in (cell for cell in swept.cells if cell.status == "failed"):
        blocks.append(Note(f"Cell {cell.number} ({cell.text}): {cell.error or 'without a message'}"))
        if cell.end_of_log:
            blocks.append(Code(f"The end of the log of cell {cell.number}", cell.end_of_log))
    return Section("failed", "Failed cells", blocks or [Text("No cell failed.")])


def _row(cell: SweptCell, swept: Swept, measured: list[str]) -> list[Cell]:
    texts = [
        str(cell.number),
        *(cell.values.get(key, NONE) for key in swept.keys),
        f"{cell.status}, {cell.note}" if cell.note else cell.status,
        *(number(cell.metrics.get(metric), 4) for metric in measured),
        duration(cell.seconds),
        (cell.run_id or NONE)[:8],
    ]
    return [Markup("<strong>{}</strong>").format(text) for text in texts] if cell in swept.best else [*texts]


_HOW = (
    "Cells that differ only in seed or fold are repeats of one choice. The standard deviation is that of the repeats, "
    "or with several splits that of their means. The 95% interval of a mean assumes that the repeats of all choices "
    "have the same variance; it is about other seeds on the same images. Choices are compared by Tukey's test, which "
    "is corrected for the choice of the best one."
)


def repeats(swept: Swept) -> Section:
    """Returns the section on choices and their repeats."""
    blocks = [*_by_choice(swept), *_ensembles(swept)]
    none = Text("No finished cells differ only in seed or fold, and no run of the store combines cells of this sweep.")
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
            against_best = found.against_best(choice) if len(swept.metrics) == 1 and name == swept.metrics[0] else ""
            rows.append([
                choice.text, *([staged_metric_name(name)] if is_several else []), str(result.runs),
                number(result.mean, 4), number(result.deviation, 4),
                interval(Value(result.mean, result.low, result.high)), against_best or NONE,
            ])  # fmt: skip
    columns = ["choice", *(["metric"] if is_several else []), ">runs", ">mean", ">sd", ">95% interval of the mean",
               "against the best mean"]  # fmt: skip
    what = "" if is_several else f": {staged_metric_name(names[0])}"
    caption = f"Each choice over its repeats ({listed(found.repeated_by)}), the best mean first{what}"
    return [Table(caption, columns, rows), Text(_HOW)]


def _ensembles(swept: Swept) -> list[Block]:
    ids = {cell.run_id for cell in swept.cells if cell.run_id}
    rows: list[list[Cell]] = []
    for run in runs_with_tag(swept.parent.store, MEMBERS_TAG, lambda text: ids.issuperset(members_of(text))):
        for name in TEST:
            if name in run.metrics:
                value = Value(run.metrics[name], run.metrics.get(f"{name}_low"), run.metrics.get(f"{name}_high"))
                what = f"{run.tags.get('ensemble', 'ensemble')} of {len(set(run.members))} cells"
                rows.append([what, staged_metric_name(name), number(value.value), interval(value), run.run_id[:8]])
    columns = ["ensemble", "metric", ">value", ">95% interval", "run"]
    return [Table("Ensembles of cells, evaluated by lesion-exp evaluate", columns, rows)] if rows else []


def config(swept: Swept) -> Section:
    """Returns the section with the config."""
    facts = swept.facts
    if not facts:
        return Section("config", "Config", [not_stored(FACTS)])
    pairs: dict[str, Cell] = {
        "keys that differ": listed(swept.keys),
        "keys that are the same": " ".join(without_place(text) for text in facts.get("fixed", [])) or NONE,
        "commit": swept.parent.tags.get("git_commit", NONE),
    }
    nodes = {node: facts[node] for node in ("search", "launcher", "space") if facts.get(node)}
    text = yaml.safe_dump(nodes, sort_keys=False, width=100, allow_unicode=True)
    return Section("config", "Config", [Pairs(pairs, wide=True), Code("Search and launcher", text)])


def reproduce(swept: Swept) -> Section:
    """Returns the section on reproduction."""
    sweep_id = swept.parent.tags.get("sweep_id", swept.parent.run_id)
    configs = _configs(swept)
    made = swept_by(swept.facts, configs)
    on = partial(command_on_sweep, swept.facts, configs)
    again = on("reproduce", "run=RUN", *data_words(configs[0] if configs else {}))
    export = command_on_sweep(swept.facts, (), "bundle", "export", f"run={sweep_id}", "output=sweep.zip")
    blocks: list[Block] = [
        Code("The command that made this sweep", made) if made else not_stored(FACTS),
        Code("Continue with the missing cells", on("sweep", "resume", sweep_id)),
        Code("Retry the failed cells", on("sweep", "retry", sweep_id)),
        Code("Train one cell again and compare the results", again),
        Code("Export everything as one file", export),
    ]
    blocks += [Text(words)] if (words := placeholders(again, made or "")) else []
    return Section("reproduce", "How to reproduce", blocks)


def _configs(swept: Swept) -> list[Mapping[str, Any]]:
    """The config of one cell for each combination of options, as far as their runs are in the store."""
    chosen: dict[tuple[str, ...], str] = {}
    for cell in swept.cells:
        if cell.run_id:
            chosen.setdefault(tuple(value for key, value in cell.values.items() if "." not in key), cell.run_id)
    configs = []
    for run_id in chosen.values():
        try:
            run = find_run(swept.parent.store, run_id)
        except ConfigError:
            continue
        configs.append(RunSummary(run, RunArtifacts(run)).config)
    return configs


SECTIONS: Final[tuple[Callable[[Swept], Section], ...]] = (
    question, repeats, choices, cells, failed, config, reproduce,
)  # fmt: skip
"""The sections in the order of the page."""
OF_FOLDS: Final[tuple[Callable[[RunSummary], Section], ...]] = (
    results, confusion, curves, calibration, subgroups, failures,
)  # fmt: skip
"""The sections of a run that the page of a cross-validation also has if its folds are evaluated together."""


def sweep_page(swept: Swept) -> Page:
    """Returns the page of a sweep."""
    parent = swept.parent
    below_title = {
        "sweep": parent.tags.get("sweep_id", NONE),
        "run": parent.run_id,
        "status": parent.status.lower(),
        "started": moment(parent.started),
    }
    sections, facts = [make(swept) for make in SECTIONS], RunSummary(parent, RunArtifacts(parent))
    if facts.predictions is not None:
        place = SECTIONS.index(failed)
        sections[place:place] = [make(facts) for make in OF_FOLDS]
    return Page(parent.name or "sweep", "Report of a sweep", below_title, sections, facts.class_meanings)
