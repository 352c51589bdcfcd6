"""The points of a run's metrics: names that MLflow takes, and no step twice in a resumed run."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from lesion_exp.tracking.params import allowed_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logging.getLogger(__name__)


class MetricPoints:
    """Decides what of the metrics of a step becomes a point; `reached` holds what a resumed run has already."""

    def __init__(self, reached: Mapping[str, tuple[int, float]] | None = None) -> None:
        self._reached = reached or {}
        self._reported: set[str] = set()

    def new(self, values: Mapping[str, float], step: int) -> dict[str, float]:
        """The metrics under names that MLflow takes, without those that a resumed run logged before it stopped."""
        points = {}
        self._report(values)
        for key, value in values.items():
            name = allowed_name(key)
            last_step, last_value = self._reached.get(name, (-1, 0.0))
            if step < last_step or (step == last_step and float(value) == last_value):
                continue
            points[name] = float(value)
        return points

    def _report(self, names: Iterable[str]) -> None:
        """Says once for each odd name, such as a class's, how it is written in the names of all its metrics."""
        parts = {key.rpartition("/")[2]: key for key in names if allowed_name(key) != key}
        new = {part: allowed_name(key).rpartition("/")[2] for part, key in parts.items() if part not in self._reported}
        if new:
            self._reported |= new.keys()
            written = ", ".join(f"{name!r} as {spelled!r}" for name, spelled in new.items())
            _log.warning("MLflow takes no such characters in the names of metrics, so it shows %s.", written)


def last_points(client: MlflowClient, run_id: str) -> dict[str, tuple[int, float]]:
    """The last step of each metric in the store, and its value there."""
    reached = {}
    for key in client.get_run(run_id).data.metrics:
        last = max(client.get_metric_history(run_id, key), key=lambda metric: (metric.step, metric.timestamp))
        reached[key] = (last.step, last.value)
    return reached
