"""The runs of a store as a table."""

from __future__ import annotations

import pandas as pd

from lesion_exp.tracking.find import PARENT_TAG, Run, runs_where
from lesion_exp.tracking.store import Store


def listing(store: Store, condition: str = "") -> pd.DataFrame:
    """A table with a row for each run that matches `condition` (MLflow's filter), the newest first.

    Columns: `run_id, name, status, started, parent`, then `params.NAME`, `metrics.NAME` and `tags.NAME`.
    """
    columns = ["run_id", "name", "status", "started", "parent"]
    table = pd.DataFrame([_row(run) for run in runs_where(store, condition)])
    return table if len(table) else pd.DataFrame(columns=columns)


def _row(run: Run) -> dict[str, object]:
    return {
        "run_id": run.run_id,
        "name": run.name,
        "status": run.status,
        "started": pd.Timestamp(run.started, unit="s", tz="UTC"),
        "parent": run.tags.get(PARENT_TAG),
        **{f"params.{name}": text for name, text in run.params.items()},
        **{f"metrics.{name}": value for name, value in run.metrics.items()},
        **{f"tags.{name}": text for name, text in run.tags.items()},
    }
