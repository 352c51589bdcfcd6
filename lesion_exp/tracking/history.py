"""Every point of every metric of a run."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from lesion_exp.tracking.find import Run


class Point(NamedTuple):
    """A value that a metric had."""

    step: int
    value: float
    timestamp: int
    """Milliseconds since 1970."""


History = dict[str, list[Point]]
"""The points of each metric, by step and time."""


def read_history(run: Run, names: Collection[str] | None = None) -> History:
    """The whole history of each metric of `run`, or of those in `names` that it has."""
    return {
        name: sorted(
            Point(point.step, point.value, point.timestamp)
            for point in run.store.client.get_metric_history(run.run_id, name)
        )
        for name in sorted(run.metrics)
        if names is None or name in names
    }
