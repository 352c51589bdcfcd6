"""Reads a few facts about each of many runs from the tables of a store.

A search by MLflow returns all parameters, metrics and tags of each run, hundreds of values, which takes milliseconds a
run. That is too long where one value of each of thousands of runs is compared.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lesion_exp.tracking.stored_run import fetch_artifact, stored_result

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import ColumnElement, Connection, TableClause

    from lesion_exp.tracking.store import Store


@dataclass(frozen=True)
class BriefRun:
    """A finished run, as far as it matters for a comparison of all runs by one result."""

    run_id: str
    artifact_uri: str
    metric: float | None
    """The last value of the metric that was asked for; None if the run has none in MLflow."""
    tags: dict[str, str]
    """Those of the tags that were asked for which the run has."""

    def result(self, store: Store, name: str) -> float | None:
        """Returns what `Run.result` returns for `name`, the metric that was asked for."""

        def fetch(path: str) -> Path | None:
            return fetch_artifact(store, self.run_id, self.artifact_uri, path)

        return stored_result(fetch, name, self.metric)


def read_finished(store: Store, metric: str, tags: Collection[str]) -> list[BriefRun]:
    """Returns the finished runs of a store that is a database, the newest first, by three queries in all.

    Args:
        store: an embedded store or another database, but no MLflow server.
        metric: the name of a metric, as in MLflow.
        tags: names of tags.
    """
    from sqlalchemy import select

    runs, experiments, metrics, tagged = _tables()
    finished = _is_active(runs, experiments) & (runs.c.status == "FINISHED")
    newest_first = select(runs.c.run_uuid, runs.c.artifact_uri).where(finished)
    newest_first = newest_first.order_by(runs.c.start_time.desc(), runs.c.run_uuid)
    with_metric = select(runs.c.run_uuid, metrics.c.value, metrics.c.is_nan).where(
        finished, metrics.c.run_uuid == runs.c.run_uuid, metrics.c.key == metric
    )
    with_tags = select(runs.c.run_uuid, tagged.c.key, tagged.c.value).where(
        finished, tagged.c.run_uuid == runs.c.run_uuid, tagged.c.key.in_(sorted(tags))
    )
    with _connection(store) as connection:
        found = connection.execute(newest_first).all()
        values = {run_id: math.nan if is_nan else value for run_id, value, is_nan in connection.execute(with_metric)}
        texts: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for run_id, key, text in connection.execute(with_tags):
            texts[run_id][key] = text
    return [BriefRun(run_id, uri, values.get(run_id), texts[run_id]) for run_id, uri in found]


def read_tag(store: Store, name: str) -> dict[str, str]:
    """Returns the tag `name` of all runs where it is not empty, by their ids, the newest run first, by one query.

    Args:
        store: an embedded store or another database, but no MLflow server.
        name: the name of the tag.
    """
    from sqlalchemy import select

    runs, experiments, _, tagged = _tables()
    query = select(runs.c.run_uuid, tagged.c.value).where(
        _is_active(runs, experiments), tagged.c.run_uuid == runs.c.run_uuid, tagged.c.key == name
    )
    newest_first = query.where(tagged.c.value != "").order_by(runs.c.start_time.desc(), runs.c.run_uuid)
    with _connection(store) as connection:
        return {run_id: str(text) for run_id, text in connection.execute(newest_first)}


def _connection(store: Store) -> Connection:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    return create_engine(store.uri, poolclass=NullPool).connect()


def _is_active(runs: TableClause, experiments: TableClause) -> ColumnElement[bool]:
    """Returns the condition that a run and its experiment are not deleted, which also joins them."""
    return (
        (experiments.c.experiment_id == runs.c.experiment_id)
        & (runs.c.lifecycle_stage == "active")
        & (experiments.c.lifecycle_stage == "active")
    )


def _tables() -> tuple[TableClause, TableClause, TableClause, TableClause]:
    """Returns the tables of runs, experiments, last values of metrics, and tags, with the columns that are read."""
    from sqlalchemy import column, table

    columns = {
        "runs": ("run_uuid", "artifact_uri", "status", "lifecycle_stage", "experiment_id", "start_time"),
        "experiments": ("experiment_id", "lifecycle_stage"),
        "latest_metrics": ("run_uuid", "key", "value", "is_nan"),
        "tags": ("run_uuid", "key", "value"),
    }
    runs, experiments, metrics, tags = (table(name, *map(column, names)) for name, names in columns.items())
    return runs, experiments, metrics, tags
