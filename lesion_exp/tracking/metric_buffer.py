"""Collects metrics in memory and sends them in batches, so that training never waits for the store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from lesion_exp.tracking.params import allowed_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

_log = logging.getLogger(__name__)

LARGEST_BATCH: Final = 1000
"""Metrics that MLflow accepts in one call."""


class MetricBuffer:
    """The metrics of a run that are not sent yet. Safe for several threads."""

    def __init__(self, client: MlflowClient, run_id: str, resumed: bool) -> None:
        self._client = client
        self._run_id = run_id
        self._waiting: list[Metric] = []
        self._adding = threading.Lock()
        self._sending = threading.Lock()
        self._renamed: set[str] = set()
        self._reached = _last_points(client, run_id) if resumed else {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Takes metrics of a step; those that a resumed run logged before it stopped are left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for key, value in values.items():
            name = allowed_name(key)
            if name != key and key not in self._renamed:
                self._renamed.add(key)
                _log.warning("MLflow refuses the metric name %r; it is logged as %r.", key, name)
            last_step, last_value = self._reached.get(name, (-1, 0.0))
            if step < last_step or (step == last_step and float(value) == last_value):
                continue
            with self._adding:
                self._waiting.append(Metric(name, float(value), now, step))

    def send(self) -> None:
        """Sends everything that waits; what the store does not take stays, in its order, for the next call.

        Sending a batch twice is harmless: MLflow drops points that are equal in every respect.
        """
        with self._sending:
            while batch := self._waiting[:LARGEST_BATCH]:
                self._client.log_batch(self._run_id, metrics=batch, synchronous=True)
                with self._adding:
                    del self._waiting[: len(batch)]


def _last_points(client: MlflowClient, run_id: str) -> dict[str, tuple[int, float]]:
    """The last step of each metric in the store, and its value there."""
    reached = {}
    for key in client.get_run(run_id).data.metrics:
        last = max(client.get_metric_history(run_id, key), key=lambda metric: (metric.step, metric.timestamp))
        reached[key] = (last.step, last.value)
    return reached
