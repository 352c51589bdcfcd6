"""Which metrics of a step become points of a run in MLflow, and which steps a run has already."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from lesion_exp.tracking.params import allowed_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)


class MetricPoints:
    """Selects the metrics of a step that become points: a metric has one value per step, and its steps increase.

    `reached` maps each metric of a resumed run to its last step. Instances are thread-safe.
    """

    def __init__(self, reached: Mapping[str, int] | None = None) -> None:
        self._reached = dict(reached or {})
        self._reported: set[str] = set()
        self._mutex = threading.Lock()

    def new(self, values: Mapping[str, float], step: int) -> dict[str, float]:
        """The metrics, under names that MLflow accepts, that have no value at this step or a later one yet.

        A resumed run repeats the steps after its last checkpoint; the values of the first time are kept.
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
        """Warns once for each name that MLflow does not accept, such as that of a class, and says how it is written."""
        odd = {_from_first_odd_part(key) for key in names if allowed_name(key) != key}
        new = {name: allowed_name(name) for name in sorted(odd - self._reported)}
        if new:
            self._reported |= new.keys()
            written = ", ".join(f"{name!r} as {spelled!r}" for name, spelled in new.items())
            log.warning("MLflow does not accept some characters in the names of metrics, so it shows %s.", written)


def _from_first_odd_part(key: str) -> str:
    """The name of a metric from the first part between slashes that MLflow refuses, such as a class `../x`.

    It is the whole name if that is only too long.
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
