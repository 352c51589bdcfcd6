"""The points of a run's metrics: names that MLflow takes, and no step twice in a resumed run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lesion_exp.tracking.params import allowed_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logging.getLogger(__name__)


class MetricPoints:
    """Decides what of the metrics of a step becomes a point; `reached` holds what a resumed run has already."""

    def __init__(self, reached: Mapping[str, tuple[int, float]] | None = None) -> None:
        self._reached = reached or {}
        self._renamed: set[str] = set()

    def new(self, values: Mapping[str, float], step: int) -> dict[str, float]:
        """The metrics under names that MLflow takes, without those that a resumed run logged before it stopped."""
        points = {}
        for key, value in values.items():
            name = allowed_name(key)
            if name != key and key not in self._renamed:
                self._renamed.add(key)
                _log.warning("MLflow refuses the metric name %r; it is logged as %r.", key, name)
            last_step, last_value = self._reached.get(name, (-1, 0.0))
            if step < last_step or (step == last_step and float(value) == last_value):
                continue
            points[name] = float(value)
        return points


def last_points(client: MlflowClient, run_id: str) -> dict[str, tuple[int, float]]:
    """The last step of each metric in the store, and its value there."""
    reached = {}
    for key in client.get_run(run_id).data.metrics:
        last = max(client.get_metric_history(run_id, key), key=lambda metric: (metric.step, metric.timestamp))
        reached[key] = (last.step, last.value)
    return reached
