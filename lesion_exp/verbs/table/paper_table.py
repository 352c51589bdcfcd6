"""The results of a sweep by the values of some keys: mean and interval over seeds and folds, and which is the best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from lesion_exp.errors import ConfigError, DataError, first_cases, nearest
from lesion_exp.evaluation.comparison import SIGNIFICANT, compared
from lesion_exp.evaluation.intervals import Unit
from lesion_exp.evaluation.lesion_counts import images_as_lesions
from lesion_exp.evaluation.pairing import aligned
from lesion_exp.evaluation.registry import direction_of, words_of
from lesion_exp.evaluation.repeated_runs import repeated
from lesion_exp.next_command import next_command
from lesion_exp.progress import Stage
from lesion_exp.split import PARTS
from lesion_exp.sweeps.choices import is_repeat, without_copies
from lesion_exp.sweeps.swept import Swept, SweptCell
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import Run, read_predictions, unit_of_any, unit_of_result
from lesion_exp.trained_runs.wording import counted

_STAGES: Final = ("test", "val")
_SPLITS: Final = ("fold", "split.seed", "dataset.seed", "dataset.drawing_seed")


@dataclass(frozen=True)
class PaperCell:
    """A result of the runs that differ in their seeds and folds alone."""

    mean: float
    low: float | None
    """Lower end of the 95% interval; None if it is unknown."""
    high: float | None
    deviation: float | None
    """Standard deviation over the runs; None for a single one."""
    runs: int
    best: bool
    """Whether it is the best result of its metric, and the paired test distinguishes it from every other result."""


@dataclass(frozen=True)
class PaperTable:
    """Results by rows and columns."""

    row_keys: tuple[str, ...]
    column_keys: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    columns: tuple[tuple[str, ...], ...]
    cells: Mapping[tuple[tuple[str, ...], tuple[str, ...], str], PaperCell]
    """By row, column and metric; a combination that no finished cell has is missing."""
    notes: tuple[str, ...]
    """How the numbers were made, in sentences for the caption."""
    missing: str
    """How many cells have no result, which is the last of the notes; empty if all have one."""


_Groups = dict[tuple[tuple[str, ...], tuple[str, ...]], list[SweptCell]]


def paper_table(
    swept: Swept,
    rows: Sequence[str],
    columns: Sequence[str],
    metrics: Sequence[str],
    *,
    where: Mapping[str, str],
    draws: int = 2000,
    unit: Unit | None = None,
) -> PaperTable:
    """Returns the table of `metrics`, with the values of `rows` and `columns`, of the finished cells of a sweep.

    The best result of a metric is marked only if it differs significantly from each other one. Where all cells have
    predictions of the same images (the folds of a cross-validation taken together), the test is that of `compare`:
    paired over lesions, and over seeds where there are several. Its p-values are multiplied by the number of all pairs,
    since the best is chosen by the same numbers (Bonferroni). `unit` says what the test takes together, the images of a
    lesion or those of a patient; None is `patient` if the intervals of any of the runs are over patients.

    Raises:
        ConfigError: the sweep does not vary one of the keys, or also varies others than seeds and folds.
        DataError: no cell has finished, or some lack a metric.
    """
    groups = _grouped(swept, rows, columns, where)
    directions = {name: direction_of(name) for name in metrics}
    cells: dict[tuple[tuple[str, ...], tuple[str, ...], str], PaperCell] = {}
    notes: list[str] = []
    runs: dict[str, Run] = {}
    of_one_run: list[tuple[str, Run]] = []
    for name in metrics:
        values = [[(_split_of(cell), _value(swept, cell, name, runs)) for cell in group] for group in groups.values()]
        found = repeated(values, directions[name], name)
        best = (max if directions[name] == "maximize" else min)(range(len(found)), key=lambda place: found[place].mean)
        is_best, tested = _is_best(swept, list(groups.values()), best, name, directions[name], draws, unit, runs)
        notes.append(f"{_title(name)}: {tested}")
        for place, (key, one) in enumerate(zip(groups, found, strict=True)):
            low, high = one.low, one.high
            if low is None and one.runs == 1:
                cell = groups[key][0]
                low, high = (_end(swept, cell, f"{name}_{end}", runs) for end in ("low", "high"))
                run = _run_of(swept, cell, runs)
                of_one_run += [] if low is None or run is None else [(name, run)]
            cells[(*key, name)] = PaperCell(one.mean, low, high, one.deviation, one.runs, is_best and place == best)
    places = dict.fromkeys(_place(cell, rows, columns) for cell in _matching(swept.cells, where))
    missing = _on_missing(swept, where)
    has_interval = any(cell.low is not None for cell in cells.values())
    units = {unit_of_result(run, name) for name, run in of_one_run}
    narrow = _too_narrow(of_one_run)
    if narrow and not any(narrow in note for note in notes):
        notes.append(narrow)
    return PaperTable(
        tuple(rows),
        tuple(columns),
        tuple(metrics),
        tuple(dict.fromkeys(row for row, _ in places)),
        tuple(dict.fromkeys(column for _, column in places)),
        cells,
        (_on_numbers(groups, units, has_interval=has_interval), *notes, *([missing] if missing else [])),
        missing,
    )


def _place(cell: SweptCell, rows: Sequence[str], columns: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The row and the column of a cell."""
    return tuple(cell.values.get(key, "") for key in rows), tuple(cell.values.get(key, "") for key in columns)


def _matching(cells: Iterable[SweptCell], where: Mapping[str, str]) -> list[SweptCell]:
    return [cell for cell in cells if all(cell.values.get(key) == text for key, text in where.items())]


def _on_missing(swept: Swept, where: Mapping[str, str]) -> str:
    """How many cells of the table have no result, and why; empty if all have one."""
    wanted, finished = _matching(swept.cells, where), {cell.number for cell in swept.finished}
    states = Counter(cell.status for cell in wanted if cell.number not in finished)
    if not states:
        return ""
    reasons = ", ".join(f"{count} {status}" for status, count in states.items())
    return f"{states.total()} of the {len(wanted)} cells of the sweep have no result and do not count ({reasons})"


def _grouped(swept: Swept, rows: Sequence[str], columns: Sequence[str], where: Mapping[str, str]) -> _Groups:
    """The finished cells by their values of `rows` and `columns`, in the order of the sweep, without copies."""
    for key in (*rows, *columns, *where):
        if key not in swept.keys:
            raise ConfigError(
                f"expected keys that the cells of the sweep differ in, got {key}; {nearest(key, swept.keys)}"
            )
    if doubled := set(rows) & set(columns):
        raise ConfigError(f"expected each key in rows= or in columns=, got {sorted(doubled)[0]} in both; leave one out")
    kept = _matching(swept.finished, where)
    if not kept:
        chosen = f" with {dict(where)}" if where else ""
        raise DataError(
            f"expected finished cells of the sweep, got none of {len(swept.cells)}{chosen}; "
            f"{next_command('sweep', 'status', swept.parent.tags.get('sweep_id', 'latest'))} lists them"
        )
    shown = {*rows, *columns}
    others = {
        key: sorted({cell.values.get(key, "") for cell in kept})
        for key in swept.choice_keys
        if key not in shown and len({cell.values.get(key, "") for cell in kept}) > 1
    }
    if others:
        key, values = next(iter(others.items()))
        raise ConfigError(
            f"expected rows=, columns= and where= to name each key that the cells differ in beside seeds and folds, "
            f"but they also differ in {', '.join(others)}; add columns={key}, or where='{{{key}: {values[0]}}}'"
        )
    groups: _Groups = {}
    for cell in kept:
        groups.setdefault(_place(cell, rows, columns), []).append(cell)
    return {place: without_copies(group) for place, group in groups.items()}


def _split_of(cell: SweptCell) -> str:
    """The fold, or the seed of the split, of a cell; the same for all cells of a sweep over seeds."""
    return " ".join(f"{key}={text}" for key, text in cell.values.items() if is_repeat(key) and key.endswith(_SPLITS))


def _run_of(swept: Swept, cell: SweptCell, runs: dict[str, Run]) -> Run | None:
    if cell.run_id is None:
        return None
    if cell.run_id not in runs:
        runs[cell.run_id] = find_run(swept.parent.store, cell.run_id)
    return runs[cell.run_id]


def _value(swept: Swept, cell: SweptCell, name: str, runs: dict[str, Run]) -> float:
    value = cell.metrics.get(name)
    if value is None:
        value = _end(swept, cell, name, runs)
    if value is None:
        known = [metric for metric in cell.metrics if not metric.endswith(("_low", "_high"))]
        more = "" if any(metric.startswith("test/") for metric in known) else (
            "; a sweep evaluates the test part only with test=true")  # fmt: skip
        raise DataError(
            f"expected {name} of each finished cell, but cell {cell.number} ({cell.text}) has none{more}; it has:\n"
            f"{first_cases(sorted(known), 12)}\nname one of these with metric="
        )
    return value


def _end(swept: Swept, cell: SweptCell, name: str, runs: dict[str, Run]) -> float | None:
    run = _run_of(swept, cell, runs)
    if run is None:
        return None
    found = run.result(f"best/{name}") if name.startswith("val/") else None
    return run.result(name) if found is None else found  # MLflow has few results of validation, its files have all


def _is_best(
    swept: Swept,
    groups: Sequence[Sequence[SweptCell]],
    best: int,
    metric: str,
    direction: str,
    draws: int,
    asked: Unit | None,
    runs: dict[str, Run],
) -> tuple[bool, str]:
    """Whether the group at `best` is better than each other one by the paired test, and what was tested in words."""
    stage, _, name = metric.partition("/")
    if len(groups) < 2:
        return False, "nothing to compare"
    if stage not in _STAGES:
        return False, "not tested, since it is no metric of predictions; no best is marked"
    tables, places = _tables(swept, groups, stage, runs)
    if tables is None:
        return False, (
            f"not tested, since the runs have not all stored predictions of the same images of the {PARTS[stage]} "
            f"part; no best is marked"
        )
    letters = [f"group {place}" for place in range(len(groups))]
    others = [place for place in range(len(groups)) if place != best]
    pairs = [(letters[best], letters[place]) for place in others]
    with Stage(f"comparing the best of {metric} with {counted(len(others), 'other')}"):
        unit = asked or unit_of_any(runs.values(), stage)
        found = compared(tables, dict(zip(letters, places, strict=True)), pairs, draws=draws, unit=unit)
    differences = [pair.differences.get(name) for pair in found.pairs]
    if any(one is None for one in differences):
        return False, "not tested, since compare does not test this metric; no best is marked"
    p_values = [one.p for one in differences if one is not None]
    number = len(groups) * (len(groups) - 1) // 2
    sign = 1 if direction == "maximize" else -1
    ahead = all(one is not None and sign * one.difference > 0 for one in differences)
    known = [p_value for p_value in p_values if p_value is not None]
    if len(known) < len(p_values):
        return False, "not tested, since it rests on too few lesions; no best is marked"
    largest = min(1.0, max(known) * number)
    apart = images_as_lesions(tables[0], unit)
    what = (
        f"paired test over {found.counted(found.num_lesions)} of the {PARTS[stage]} part ({found.num_images:,} "
        f"images), corrected for {counted(number, 'pair')}{f'; {apart}' if apart else ''}"
    )
    if ahead and largest < SIGNIFICANT:
        return True, f"bold: better than every other result (p < {SIGNIFICANT:g}, {what})"
    return False, f"no best is marked, since the {what} does not distinguish it from every other (p = {largest:.3f})"


def _tables(
    swept: Swept, groups: Sequence[Sequence[SweptCell]], stage: str, runs: dict[str, Run]
) -> tuple[list[pd.DataFrame] | None, list[list[int]]]:
    """The predictions of each seed of each group, its folds taken together, and their positions by group.

    None if predictions are missing, or are not of the same images.
    """
    found: dict[str, pd.DataFrame] = {}
    places: list[list[int]] = []
    for number, group in enumerate(groups):
        own: list[int] = []
        by_seed: dict[str, list[pd.DataFrame]] = {}
        for cell in group:
            run = _run_of(swept, cell, runs)
            if run is None or run.fetch(artifacts.predictions(stage)) is None:
                return None, []
            seed = " ".join(text for key, text in cell.values.items() if is_repeat(key) and not key.endswith(_SPLITS))
            by_seed.setdefault(seed, []).append(read_predictions(run, stage))
        for seed, tables in by_seed.items():
            joined = pd.concat(tables, ignore_index=True)
            if "row_id" in joined and joined["row_id"].duplicated().any():
                return None, []  # several splits that share images are no cross-validation
            own.append(len(found))
            found[f"{number} {seed}"] = joined
        places.append(own)
    try:
        return list(aligned(found).values()), places
    except DataError:
        return None, []


def _title(metric: str) -> str:
    stage, _, name = metric.partition("/")
    return f"{words_of(name)} ({PARTS[stage]} part)" if stage in _STAGES else metric


def _too_narrow(of_one_run: Sequence[tuple[str, Run]]) -> str | None:
    """The warning that images count as lesions in the intervals of single runs; one run of each data set is looked at.

    Args:
        of_one_run: the results that are those of one run, by the name of the metric.
    """
    looked: set[tuple[str, str | None, Unit]] = set()
    for name, run in of_one_run:
        stage, unit = name.partition("/")[0], unit_of_result(run, name)
        seen = (stage, run.tags.get("dataset"), unit)
        if stage not in _STAGES or seen in looked or run.fetch(artifacts.predictions(stage)) is None:
            continue
        looked.add(seen)
        if text := images_as_lesions(read_predictions(run, stage), unit):
            return text
    return None


def _on_numbers(groups: _Groups, units: Collection[Unit], *, has_interval: bool) -> str:
    """What each number is, with the number of runs; `units` are those of the intervals of single runs."""
    counts = sorted({len(group) for group in groups.values()})
    if counts[-1] == 1:
        if not has_interval:
            return "each number is that of one run (n = 1), without an interval"
        over = " or ".join(f"{unit}s" for unit in sorted(units))
        return (
            f"each number is that of one run (n = 1), with its 95% interval over {over}, which does not contain "
            "the variation of repeated training"
        )
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]} (in each cell)"
    repeats = sorted({key for group in groups.values() for cell in group for key in cell.values if is_repeat(key)})
    words = f"each number is the mean of {n} runs that differ in {' and '.join(repeats)}"
    if not has_interval:
        return f"{words}, without an interval: the runs of each cell have equal results, or a cell has one run alone"
    return f"{words}, with its 95% interval over these runs (Student's, deviation pooled over the cells)"
