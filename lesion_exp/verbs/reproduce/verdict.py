"""Whether two runs came to the same: weights, and every point of every metric but times."""

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
"""The metric whose points mark the ends of epochs."""
_NOT_COMPARED: Final = ("time/", "system/", "evaluation/")
"""Beginnings of metrics that measure the machine, or that `evaluate` added to a run later."""
_STAGES: Final = ("train", "lr", "val", "best", "test")


@dataclass(frozen=True)
class Gap:
    """A point at which two runs differ; a value is None where a run lacks the point."""

    metric: str
    epoch: int
    """From 1."""
    step: int
    then: float | None
    now: float | None
    size: float
    """|now - then|, divided by |then| where that is above 1; infinite where only one of them is a number."""

    def __str__(self) -> str:
        values = (f"{self.then!r} then, {self.now!r} now").replace("None", "absent")
        return f"{self.metric} in epoch {self.epoch} (step {self.step}): {values}"


@dataclass(frozen=True)
class RunComparison:
    """What the comparison of two runs came to."""

    kind: Kind
    weights: tuple[str | None, str | None]
    """The hashes of the best weights, then and now."""
    num_metrics: int
    num_points: int
    first: Gap | None
    """The first point beyond the tolerance; where there is none, the first that differs at all."""
    largest: Gap | None
    """The point that differs most."""


def compare_runs(
    then: History,
    now: History,
    weights: tuple[str | None, str | None],
    tolerance: float = ReproductionRequest.tolerance,
) -> RunComparison:
    """`identical` if the weights and all points are equal, bit for bit; `within tolerance` if no gap is larger than
    `tolerance`; else `diverged`. Times of points, `time/...`, `system/...` and `evaluation/...` do not count.
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
