"""Compares the weights of two runs, and every point of their metrics except times."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from lesion_exp.tracking.find import History, Point
from lesion_exp.verbs.reproduce.request import ReproductionRequest

Kind = Literal["identical", "within tolerance", "diverged"]

EPOCH_CLOCK: Final = "time/epoch_seconds"
"""The metric whose points are at the ends of epochs."""
_NOT_COMPARED: Final = ("time/", "system/", "evaluation/")
"""Prefixes of metrics that measure the machine, or that `evaluate` adds to a run later."""
_STAGES: Final = ("train", "lr", "val", "best", "test")


@dataclass(frozen=True)
class Gap:
    """A point at which two runs differ; a value is None if the run lacks the point."""

    metric: str
    epoch: int
    """The number of the epoch, from 1."""
    step: int
    then: float | None
    now: float | None
    size: float
    """|now - then|, divided by |then| if that is above 1; infinite if only one of them is a number."""

    def __str__(self) -> str:
        values = (f"{self.then!r} then, {self.now!r} now").replace("None", "absent")
        return f"{self.metric} in epoch {self.epoch} (step {self.step}): {values}"


@dataclass(frozen=True)
class RunComparison:
    """The result of comparing two runs."""

    kind: Kind
    weights: tuple[str | None, str | None]
    """The hashes of the best weights, then and now."""
    num_metrics: int
    num_points: int
    first: Gap | None
    """The first point beyond the tolerance, or if there is none the first that differs at all."""
    largest: Gap | None
    """The point with the largest difference."""


def compare_runs(
    then: History,
    now: History,
    weights: tuple[str | None, str | None],
    tolerance: float = ReproductionRequest.tolerance,
) -> RunComparison:
    """Compares the metrics and the hashes of the best weights of two runs.

    The result is `identical` if weights and all points are equal bit for bit, `within tolerance` if no difference is
    larger than `tolerance`, and else `diverged`. The times of points, and the metrics `time/...`, `system/...` and
    `evaluation/...` are not compared.
    """
    names = sorted(name for name in {*then, *now} if not name.startswith(_NOT_COMPARED))
    ends = sorted({point.step for point in then.get(EPOCH_CLOCK, now.get(EPOCH_CLOCK, ()))})
    gaps = sorted(
        (gap for name in names for gap in _gaps(name, then.get(name, ()), now.get(name, ()), ends)), key=_order
    )
    beyond = [gap for gap in gaps if gap.size > tolerance]
    same_weights = weights[0] == weights[1]
    kind: Kind = "diverged" if beyond else "identical" if same_weights and not gaps else "within tolerance"
    return RunComparison(
        kind=kind,
        weights=weights,
        num_metrics=len(names),
        num_points=sum(len(then.get(name, ())) for name in names),
        first=next(iter(beyond or gaps), None),
        largest=max(gaps, key=lambda gap: gap.size, default=None),
    )


def _gaps(name: str, then: Sequence[Point], now: Sequence[Point], ends: Sequence[int]) -> Iterator[Gap]:
    before, after = _by_step(then), _by_step(now)
    for step in sorted({*before, *after}):
        old, new = before.get(step, []), after.get(step, [])
        for position in range(max(len(old), len(new))):
            pair = [values[position] if position < len(values) else None for values in (old, new)]
            size = _size(*pair)
            if size > 0:
                yield Gap(name, _epoch(step, ends), step, pair[0], pair[1], size)


def _by_step(points: Sequence[Point]) -> Mapping[int, list[float]]:
    found: dict[int, list[float]] = {}
    for point in sorted(points):
        found.setdefault(point.step, []).append(point.value)
    return found


def _size(then: float | None, now: float | None) -> float:
    if then is None or now is None:
        return math.inf
    if then == now or (math.isnan(then) and math.isnan(now)):
        return 0.0
    size = abs(now - then) / max(1.0, abs(then))
    return math.inf if math.isnan(size) else size


def _epoch(step: int, ends: Sequence[int]) -> int:
    return min(bisect_right(ends, step) + 1, max(len(ends), 1))


def _order(gap: Gap) -> tuple[int, int, int, str]:
    stage = gap.metric.partition("/")[0].partition("-")[0]
    return gap.epoch, gap.step, _STAGES.index(stage) if stage in _STAGES else len(_STAGES), gap.metric
