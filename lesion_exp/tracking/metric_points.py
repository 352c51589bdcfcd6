"""The points of a run's metrics: names that MLflow takes, and no step twice."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from lesion_exp.tracking.params import allowed_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logging.getLogger(__name__)


class MetricPoints:
    """Decides what of the metrics of a step becomes a point: a metric has one value a step, and steps only grow.

    `reached` holds the last step of each metric that a resumed run has already. Safe for several threads.
    """

    def __init__(self, reached: Mapping[str, int] | None = None) -> None:
        self._reached = dict(reached or {})
        self._reported: set[str] = set()
        self._mutex = threading.Lock()

    def new(self, values: Mapping[str, float], step: int) -> dict[str, float]:
        """The metrics under names that MLflow takes, without those that have a value at this step or a later one.

        A resumed run repeats the steps after its last checkpoint; the values of the first time stay.
        """
        points = {}
        self._report(values)
        with self._mutex:
            for key, value in values.items():
                name = allowed_name(key)
                if step > self._reached.get(name, -1):
                    points[name] = float(value)
                    self._reached[name] = step
        return points

    def _report(self, names: Iterable[str]) -> None:
        """Says once for each odd name, such as a class's, how it is written in the names of all its metrics."""
        odd = {_from_first_odd_part(key) for key in names if allowed_name(key) != key}
        new = {name: allowed_name(name) for name in sorted(odd - self._reported)}
        if new:
            self._reported |= new.keys()
            written = ", ".join(f"{name!r} as {spelled!r}" for name, spelled in new.items())
            _log.warning("MLflow takes no such characters in the names of metrics, so it shows %s.", written)


def _from_first_odd_part(key: str) -> str:
    """The end of a metric's name, from the first part between slashes that MLflow refuses: all of a class `../x`.

    The whole name where it is only too long.
    """
    parts = key.split("/")
    first = next((place for place, part in enumerate(parts) if allowed_name(part) != part), 0)
    return "/".join(parts[first:])


def last_steps(client: MlflowClient, run_id: str) -> dict[str, int]:
    """The last step of each metric in the store."""
    return {name: max(known_steps(client, run_id, name)) for name in client.get_run(run_id).data.metrics}


def known_steps(client: MlflowClient, run_id: str, name: str) -> set[int]:
    """The steps at which a metric of a run has a value in the store."""
    return {int(point.step) for point in client.get_metric_history(run_id, name)}
