"""The section on training, with its metrics by epoch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import numpy as np

from lesion_exp.evaluation.registry import (
    WATCHED_METRIC,
    added_among,
    mode_of,
    short_of,
    shown_in,
    words_of,
)
from lesion_exp.tracking.artifacts import STACKING, STACKING_COMPARED
from lesion_exp.tracking.stored_run import MODES_TAG, History, Point, read_history
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.wording import counted, number
from lesion_exp.verbs.report.blocks import Block, Cell, Figure, Figures, Legend, Note, Section, Table, Text, not_stored
from lesion_exp.verbs.report.charts import Axis, Line, Mark, plot, round_axis, unit_axis

LOSSES: Final = ("train/loss", "val/loss")
SCORES: Final = tuple(f"val/{name}" for name in shown_in("epoch"))
RATE: Final = "train/lr"
_MODELS: Final = {
    "logistic": "a logistic regression",
    "hgb": "gradient-boosted trees of scikit-learn",
    "lgbm": "gradient-boosted trees of LightGBM",
}
_MOST_FEATURES: Final = 20
"""Largest number of features whose importance is shown."""


def training(facts: RunSummary) -> Section:
    """Returns the section on training."""
    if facts.kept.mapping(STACKING):
        return Section("training", "Training", _stacked(facts))
    if facts.members:
        return Section("training", "Training", [Text("This run combines other runs and trained no network.")])
    added = [f"val/{name}" for name in added_among(facts.run.metrics, "val/")]
    watched = str(facts.key("trainer.monitor") or WATCHED_METRIC)
    history = read_history(facts.run, dict.fromkeys((*LOSSES, *SCORES, *added, RATE, watched)))
    steps = [point.step for point in history.get("train/loss") or history.get("val/loss") or []]
    if not steps:
        return Section("training", "Training", [not_stored("metrics of epochs")])
    best = _best(facts, watched, history, steps)
    blocks: list[Block] = [Text(_in_words(steps, watched, best))]
    marks = [] if best is None else [Mark(best[0], f"best epoch, {best[0]:.0f}")]
    figures = [_losses(history, steps, marks), _scores(history, steps, marks)]
    figures += [*(_added(name, history, steps, marks) for name in added), _rate(history, steps)]
    return Section("training", "Training", [*blocks, Figures([figure for figure in figures if figure])])


def _stacked(facts: RunSummary) -> list[Block]:
    """How a stacked ensemble was fitted, what its features are worth, and its difference from its members."""
    found = facts.kept.mapping(STACKING)
    options, fitted = found["options"], found["fitted_on"]
    where = "the held-out folds" if found["evaluated_on"] == "held-out folds" else "the validation part"
    intro = (
        f"This run trained no network. It is a stacked ensemble ({_MODELS[options['stack']]}), fitted on predictions "
        f"of {counted(fitted['images'], 'image')} of {where}, on which no member was trained. Predictions of these "
        f"images come from {counted(found['folds'], 'fold')}, in which {counted(fitted['groups'], 'group')} (patients, "
        f"or lesions of unknown patients) stay together. The context of a lesion compares it with the other lesions of "
        f"its patient among the images that are predicted; labels are not read."
    )
    blocks: list[Block] = [Text(intro), *(Note(f"{note[:1].upper()}{note[1:]}.") for note in found["notes"])]
    rows: list[list[Cell]] = [
        [one["source"], one["group"], f"{one['increase']:+z.4f}", f"{one['deviation']:.4f}"]
        for one in found["importance"][:_MOST_FEATURES]
    ]
    heads = ["feature", "group", ">increase of the log loss", ">deviation over folds"]
    blocks.append(Table("Importance: increase of held-out images' log loss if a feature is permuted", heads, rows))
    compared: list[list[Cell]] = [
        [other, short_of(name), f"{one['difference']:+z.3f}", f"{one['low']:+z.3f} to {one['high']:+z.3f}"]
        for other, differences in facts.kept.mapping(STACKING_COMPARED).items()
        for name, one in differences.items()
        if name in shown_in("headline")
    ]
    if compared:
        heads = ["less", "metric", ">difference", ">95% interval"]
        blocks.append(Table("The stacked ensemble less its members, on the same images", heads, compared))
    return blocks


def _best(facts: RunSummary, watched: str, history: History, steps: Sequence[int]) -> tuple[float, float] | None:
    """The epoch of the best validation and the value of the metric `watched`; None without any."""
    points = [point for point in history.get(watched, []) if np.isfinite(point.value)]
    if not points:
        return None
    sign = -1 if watched_metric(facts)[1] == "min" else 1
    top = max(points, key=lambda point: (sign * point.value, -point.step))
    return round(_epochs([top], steps)[0]), top.value


def watched_metric(facts: RunSummary) -> tuple[str, str]:
    """Returns the metric by which the run chose its best epoch, without its stage, and its direction, max or min."""
    name = str(facts.key("trainer.monitor") or WATCHED_METRIC).removeprefix("val/")
    return name, str(json.loads(facts.run.tags.get(MODES_TAG, "{}")).get(name) or mode_of(name))


def _epochs(points: Sequence[Point], steps: Sequence[int]) -> list[float]:
    """The epoch of each point, counted from 1, from the steps at the ends of epochs."""
    ends = [step + 1 for step in steps]
    return [float(np.interp(point.step + 1, [0, *ends], range(len(ends) + 1))) for point in points]


def _in_words(steps: Sequence[int], watched: str, best: tuple[float, float] | None) -> str:
    ran = f"Trained for {counted(len(steps), 'epoch')}, {counted(steps[-1] + 1, 'step')}"
    if best is None:
        return f"{ran}."
    name = short_of(watched.removeprefix("val/"))
    return (
        f"{ran}. The validation part's {name} was best in epoch {best[0]:.0f}, {number(best[1])}; the "
        f"weights of that epoch are evaluated below."
    )


def _losses(history: History, steps: Sequence[int], marks: Sequence[Mark]) -> Figure | None:
    found = {name: history[name] for name in LOSSES if history.get(name)}
    if not found:
        return None
    values = [point.value for points in found.values() for point in points]
    axis = round_axis("loss", values, least=0.0 if min(values, default=0) >= 0 else None)
    names = {"train/loss": "training", "val/loss": "validation"}
    return _figure("Loss by epoch", found, names, axis, steps, marks)


def _scores(history: History, steps: Sequence[int], marks: Sequence[Mark]) -> Figure | None:
    found = {name: history[name] for name in SCORES if history.get(name)}
    names = {name: words_of(name.removeprefix("val/")) for name in SCORES}
    return _figure("Validation metrics by epoch", found, names, unit_axis("value"), steps, marks) if found else None


def _added(name: str, history: History, steps: Sequence[int], marks: Sequence[Mark]) -> Figure | None:
    """A figure of a metric that the config adds, whose range is not known."""
    words = words_of(name.removeprefix("val/"))
    values = [point.value for point in history[name] if np.isfinite(point.value)]
    if not values:
        return None
    axis = round_axis(words, values)
    return _figure(f"{words} by epoch", {name: history[name]}, {name: words}, axis, steps, marks)


def _rate(history: History, steps: Sequence[int]) -> Figure | None:
    points = history.get(RATE, [])
    if not points:
        return None
    axis = round_axis("learning rate", [point.value for point in points], least=0.0)
    return _figure(
        "Learning rate at the start of each epoch", {RATE: points}, {RATE: "largest of all groups"}, axis, steps, []
    )


def _figure(
    caption: str,
    found: History,
    names: dict[str, str],
    axis: Axis,
    steps: Sequence[int],
    marks: Sequence[Mark],
) -> Figure:
    x = round_axis("epoch", [0.0, float(len(steps))], least=0.0, whole=True)
    lines = [
        Line(_epochs(points, steps), [point.value for point in points], number, markers=len(points) < 15)
        for number, points in enumerate(found.values())
    ]
    ends = "; ".join(
        f"{names[name]} from {points[0].value:.3g} to {points[-1].value:.3g}" for name, points in found.items()
    )
    drawing = plot(f"{caption}: {ends}", x, axis, [*marks, *lines])
    return Figure(drawing, caption, [Legend(names[name], number) for number, name in enumerate(found)])
