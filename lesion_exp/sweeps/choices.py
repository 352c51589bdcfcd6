"""The choices of a sweep: its cells grouped by everything that they set except seeds and folds, and compared."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol, TypeVar, cast

from lesion_exp.evaluation.registry import Direction, direction_of
from lesion_exp.evaluation.repeated_runs import LEVEL, Repeated, as_fields, means_of, repeated
from lesion_exp.sweeps.search.search import better

_REPEATING: Final = frozenset({"seed", "fold", "share_seed", "drawing_seed"})
_MASK: Final = "dataset.mask"
_SAME_IMAGES: Final = frozenset(
    {
        *("split.train_share", "split.allow_leakage", "split.part"),
        *(_MASK, "dataset.mask_margin", "dataset.store_size"),
        *("dataset.pseudo_labels", "dataset.pseudo_weight"),
    }
)
"""Keys below `split` and `dataset` that leave the validation images as they are, with their classes.

With `dataset.on_bad_image=skip`, `dataset.mask` may change them: the images without a usable mask are left out."""
_OF_TRAINING: Final = frozenset({"seed", "split.share_seed"})
"""The keys of repetitions that change training only; other seeds and folds also change the images."""


class MeasuredCell(Protocol):
    """A cell with its results."""

    @property
    def number(self) -> int:
        """The number of the cell."""

    @property
    def values(self) -> Mapping[str, str]:
        """The values that it sets, by the keys in which cells differ."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """The results of the cell."""

    @property
    def run_id(self) -> str | None:
        """The run with these results; cells of one job may share it."""


_Cell = TypeVar("_Cell", bound=MeasuredCell)


def is_repeat(key: str) -> bool:
    """Returns whether cells that differ in `key` only are repetitions, as with `seed`, `split.fold` or `split.seed`."""
    return key.rpartition(".")[2] in _REPEATING


def chosen(values: Mapping[str, str]) -> dict[str, str]:
    """Returns the values of a cell without its seeds and folds."""
    return {key: value for key, value in values.items() if not is_repeat(key)}


def as_text(values: Mapping[str, str]) -> str:
    """Returns a choice as text, such as `loss=focal optimizer.lr=0.001`."""
    return " ".join(f"{key}={value}" for key, value in values.items()) or "all cells"


@dataclass(frozen=True)
class Choice:
    """A choice with the results of its cells."""

    values: Mapping[str, str]
    cells: tuple[int, ...]
    """Numbers of its cells."""
    results: Mapping[str, Repeated]
    """Its results by metric."""

    @property
    def text(self) -> str:
        """The choice as text."""
        return as_text(self.values)


@dataclass(frozen=True)
class Choices:
    """The choices of a sweep, sorted by the mean of the first metric, the best first."""

    ranked: tuple[Choice, ...]
    metrics: tuple[str, ...]
    directions: tuple[str, ...]
    repeated_by: tuple[str, ...]
    """The keys in which cells of one choice differ, such as `seed`."""
    skip_bad_images: bool = False
    """Whether images that cannot be used are left out (`dataset.on_bad_image=skip`)."""

    @property
    def are_repeated(self) -> bool:
        """Whether any choice has several cells."""
        return any(len(choice.cells) > 1 for choice in self.ranked)

    @property
    def are_comparable(self) -> bool:
        """Whether all choices predict the same classes of the same images, which depend on data set, split and task."""
        return not self._incomparable()

    @property
    def _changed(self) -> set[str]:
        """Which of data set, split and task differ between choices."""
        keys = {key for choice in self.ranked for key in choice.values} - _SAME_IMAGES
        return {"dataset", "split", "task"} & {key.partition(".")[0] for key in keys}

    @property
    def _may_differ_by_masks(self) -> bool:
        """Whether some choices leave out images without a usable mask, and others do not use masks."""
        uses = {choice.values.get(_MASK) for choice in self.ranked}
        return self.skip_bad_images and len(uses) > 1 and "none" in uses

    @cached_property
    def front(self) -> tuple[Choice, ...]:
        """The choice with the best mean, or for several metrics the Pareto front of the means.

        It is empty if cells differ in seeds or folds only, and if the choices are evaluated on different images.
        """
        if (len(self.ranked) == 1 and not self.ranked[0].values) or not self.are_comparable:
            return ()
        kept = tuple(choice for choice in self.ranked if not any(self._beats(other, choice) for other in self.ranked))
        return kept[:1] if len(self.metrics) == 1 else kept

    def _incomparable(self) -> str:
        """A sentence on why the choices cannot be compared; empty if they can be."""
        different, images = "evaluated on different validation images", "its images are easier"
        if self._changed - {"task"}:
            how, what = f"are {different}", images
        elif self._changed:
            how, what = "are evaluated by different tasks", "its task is easier"
        elif self._may_differ_by_masks:
            why = "dataset.on_bad_image=skip leaves out those without a usable mask"
            how, what = f"may be {different}, since {why}", images
        else:
            return ""
        return f"These choices {how}, so none of them is called the best: a higher mean may only show that {what}."

    def _beats(self, one: Choice, other: Choice) -> bool:
        pairs = [
            (direction, one.results[name].mean, other.results[name].mean)
            for name, direction in zip(self.metrics, self.directions, strict=True)
        ]
        return any(better(*pair) for pair in pairs) and not any(better(way, b, a) for way, a, b in pairs)

    def against_best(self, choice: Choice) -> str:
        """Returns the comparison of a choice with the best mean of the first metric, for a column of a table."""
        if len(self.ranked) < 2 or not self.are_comparable:
            return ""
        if choice is self.ranked[0]:
            return "best mean"
        p_value = choice.results[self.metrics[0]].p_against_best
        if p_value is None:
            return "not known"
        told = f"p = {p_value:.3f}" if p_value >= 0.001 else "p < 0.001"
        return f"worse ({told})" if p_value < LEVEL else "not distinguishable"

    def best_over_seeds(self) -> str:
        """Returns the choice with the best mean and its result in short; empty if there is no best choice."""
        if not self.front or len(self.metrics) > 1:
            return ""
        best = self.front[0]
        short = as_text({key.rpartition(".")[2]: value for key, value in best.values.items()})
        return (
            f"{short}: {self.over_seeds(best).partition(',')[0] or format(best.results[self.metrics[0]].mean, '.3f')}"
        )

    def over_seeds(self, choice: Choice) -> str:
        """Returns the result of a choice over its seeds and folds, for the table of runs.

        The result is empty if each choice has one cell.
        """
        result = choice.results[self.metrics[0]]
        if not self.are_repeated:
            return ""
        spread = "" if result.deviation is None else f" ± {result.deviation:.3f}"
        runs = f"{len(choice.cells)} run{'s' if len(choice.cells) > 1 else ''}"
        told = self.against_best(choice) if len(self.metrics) == 1 else ""
        return f"{result.mean:.3f}{spread} ({runs})" + (f", {told}" if told else "")

    def conclusion(self) -> str:
        """Sentences that name the choice with the best mean, and the choices that cannot be distinguished from it."""
        if not self.ranked:
            return ""
        first, name = self.ranked[0], self.metrics[0]
        result = first.results[name]
        if not self.are_comparable:
            return self._incomparable()
        if not self.front:
            if result.runs == 1:  # a single run, or the only cell that has finished
                return ""
            repeat = " and ".join(self.repeated_by) or "seed"
            return (
                f"The cells differ in {repeat} only, so none of them is a better choice than another: report the mean "
                f"of {result.runs}, {name} {result.mean:.4f}{_spread(result)}."
            )
        if len(self.metrics) > 1 or len(self.ranked) < 2:
            return ""
        start = f"{first.text} has the best mean of {name}: {result.mean:.4f}{_spread(result)}."
        others = self.ranked[1:]
        if any(choice.results[name].p_against_best is None for choice in others):
            return (
                f"{start} The variation between repeated runs is not known, so no choice is shown to be better than "
                f"another: add seed=1,2,3 to the sweep."
            )
        equal = [choice.text for choice in others if not choice.results[name].differs]
        if not equal:
            return (
                f"{start} Every other choice is significantly worse, given the variation between repeated runs "
                f"(Tukey's test, p < {LEVEL})."
            )
        shown = "; ".join(equal[:5]) + (f"; and {len(equal) - 5} more" if len(equal) > 5 else "")
        return f"{start} Not distinguishable from it, given the variation between repeated runs: {shown}."

    def as_json(self) -> list[dict[str, Any]]:
        """Returns the choices as JSON values, the best mean first."""
        return [
            {
                "overrides": dict(choice.values),
                "cells": list(choice.cells),
                "results": as_fields(choice.results),
                "against_best": self.against_best(choice) or None,
            }
            for choice in self.ranked
        ]


def group_cells(
    cells: Sequence[MeasuredCell],
    metrics: Sequence[str],
    directions: Sequence[str],
    also: Sequence[str] = (),
    *,
    skip_bad_images: bool = False,
) -> Choices:
    """Groups the cells that have a value of every metric by their choices; of cells with the same run, one counts.

    Args:
        cells: finished cells.
        metrics: the metrics of the search.
        directions: `maximize` or `minimize` for each of them.
        also: further metrics to summarise, if all of these cells have them.
        skip_bad_images: whether images that cannot be used are left out.
    """
    groups = _by_choice(cells, metrics)
    valued = [cell for group in groups for cell in group]
    summed: dict[str, list[Repeated]] = {}
    ways = dict(zip(metrics, directions, strict=True))
    for name in (*metrics, *(name for name in also if all(_is_known(cell, name) for cell in valued))):
        summed[name] = repeated(_runs(groups, name), cast(Direction, ways.get(name, direction_of(name))), name)
    choices = [
        Choice(
            chosen(group[0].values),
            tuple(cell.number for cell in group),
            {name: results[place] for name, results in summed.items()},
        )
        for place, group in enumerate(groups)
    ]
    sign = -1 if directions[0] == "maximize" else 1
    choices.sort(key=lambda choice: sign * choice.results[metrics[0]].mean)
    differing = dict.fromkeys(key for cell in valued for key in cell.values if is_repeat(key))
    return Choices(tuple(choices), tuple(metrics), tuple(directions), tuple(differing), skip_bad_images)


def without_copies(cells: Iterable[_Cell]) -> list[_Cell]:
    """Returns the cells of one choice without those that took over the run of an earlier one: no repetitions."""
    found: dict[Hashable, _Cell] = {}
    for cell in cells:
        found.setdefault(("cell", cell.number) if cell.run_id is None else cell.run_id, cell)
    return list(found.values())


def best_means(cells: Sequence[MeasuredCell], metrics: Sequence[str], directions: Sequence[str]) -> dict[str, float]:
    """Returns the best mean of each metric over the choices, which are not compared; empty without results."""
    groups = _by_choice(cells, metrics)
    ways = zip(metrics, directions, strict=True)
    return {name: (max if way == "maximize" else min)(means_of(_runs(groups, name))) for name, way in ways if groups}


def _by_choice(cells: Sequence[MeasuredCell], metrics: Sequence[str]) -> list[list[MeasuredCell]]:
    """The cells of each choice that have a value of every metric, in the order of their numbers, without copies."""
    valued = [cell for cell in cells if all(_is_known(cell, name) for name in metrics)]
    groups: dict[tuple[tuple[str, str], ...], list[MeasuredCell]] = {}
    for cell in sorted(valued, key=lambda cell: cell.number):
        groups.setdefault(tuple(sorted(chosen(cell.values).items())), []).append(cell)
    return [without_copies(group) for group in groups.values()]


def _runs(groups: Sequence[Sequence[MeasuredCell]], name: str) -> list[list[tuple[Hashable, float]]]:
    """The split and the value of a metric of each cell, by choice."""
    return [[(_split(cell), cell.metrics[name]) for cell in group] for group in groups]


def _is_known(cell: MeasuredCell, name: str) -> bool:
    return not math.isnan(cell.metrics.get(name, math.nan))


def _split(cell: MeasuredCell) -> tuple[tuple[str, str], ...]:
    """The values that determine on which images the cell is trained and evaluated, by keys of repetitions."""
    of_split = {key: value for key, value in cell.values.items() if is_repeat(key) and key not in _OF_TRAINING}
    return tuple(sorted(of_split.items()))


def _spread(result: Repeated) -> str:
    if result.deviation is None or result.low is None:
        return ""
    return f" (standard deviation {result.deviation:.4f}, 95% interval {result.low:.4f} to {result.high:.4f})"
