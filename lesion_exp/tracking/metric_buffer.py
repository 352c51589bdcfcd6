"""Collects metrics in memory and sends them in batches, so that training never waits for the store."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lesion_exp.tracking.params import allowed_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

_log = logging.getLogger(__name__)

LARGEST_BATCH: Final = 1000
"""Metrics that MLflow accepts in one call."""
POINTS_FILE: Final = "metrics.jsonl"
SENT_FILE: Final = "metrics.sent"


class MetricBuffer:
    """The metrics of a run that are not sent yet, in memory and in `folder`. Safe for several threads.

    The files outlive a process that is killed: a resumed run sends first what was not sent.
    """

    def __init__(self, client: MlflowClient, run_id: str, folder: Path, resumed: bool) -> None:
        self._client = client
        self._run_id = run_id
        self._points = folder / POINTS_FILE
        self._sent_file = folder / SENT_FILE
        self._adding = threading.Lock()
        self._sending = threading.Lock()
        self._renamed: set[str] = set()
        self._waiting: list[Metric] = self._unsent()
        self._reached = _last_points(client, run_id) if resumed else {}
        for point in self._waiting:
            self._reached[point.key] = max(self._reached.get(point.key, (-1, 0.0)), (point.step, point.value))
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self._points.open("a", encoding="utf-8")

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
                self._file.write(json.dumps([name, float(value), now, step]) + "\n")
        with self._adding:
            self._file.flush()

    def send(self) -> None:
        """Sends everything that waits; what the store does not take stays, in its order, for the next call.

        Sending a batch twice is harmless: MLflow drops points that are equal in every respect.
        """
        with self._sending:
            while batch := self._waiting[:LARGEST_BATCH]:
                self._client.log_batch(self._run_id, metrics=batch, synchronous=True)
                with self._adding:
                    del self._waiting[: len(batch)]
                    self._note_sent(len(batch))

    def sync(self) -> None:
        """Brings the files to the disk, so that they outlive a power failure."""
        with self._adding:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Removes the files; everything has been sent."""
        self._file.close()
        for path in (self._points, self._sent_file):
            path.unlink(missing_ok=True)

    def _note_sent(self, count: int) -> None:
        """Counts sent lines in the file, and empties it once everything is sent."""
        if not self._waiting:
            self._sent_file.unlink(
                missing_ok=True
            )  # first: a kill in between sends everything twice, which is harmless
            self._file.truncate(0)
            return
        partial = self._sent_file.with_name(f".{SENT_FILE}.part")
        partial.write_text(str(self._num_sent() + count), encoding="utf-8")
        partial.replace(self._sent_file)

    def _num_sent(self) -> int:
        return int(self._sent_file.read_text(encoding="utf-8")) if self._sent_file.exists() else 0

    def _unsent(self) -> list[Metric]:
        from mlflow.entities import Metric

        if not self._points.exists():
            return []
        lines = self._points.read_text(encoding="utf-8").splitlines(keepends=True)[self._num_sent() :]
        whole = [json.loads(line) for line in lines if line.endswith("\n")]  # a power failure may cut the last one
        return [Metric(name, value, timestamp, step) for name, value, timestamp, step in whole]


def _last_points(client: MlflowClient, run_id: str) -> dict[str, tuple[int, float]]:
    """The last step of each metric in the store, and its value there."""
    reached = {}
    for key in client.get_run(run_id).data.metrics:
        last = max(client.get_metric_history(run_id, key), key=lambda metric: (metric.step, metric.timestamp))
        reached[key] = (last.step, last.value)
    return reached
