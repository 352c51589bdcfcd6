"""The view of an experiment in MLflow's page: which columns stand in its list of runs, and which charts come first."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Final

from lesion_exp.tracking.charts import chart_state

VIEW_KEY: Final = "lesion-exp"
"""Name of the view in the page's address."""
COLUMNS: Final = (
    "tags.`leaky`",
    "metrics.`best/val/balanced_accuracy`",
    "metrics.`test/balanced_accuracy`",
    "metrics.`test/auroc_macro`",
    "metrics.`test/accuracy`",
    "tags.`dataset`",
    "tags.`backbone`",
    "tags.`sampler`",
    "tags.`loss`",
)
"""What a list of runs has to answer: what was trained on what, and how good it is."""
_FIRST_WIDTHS: Final = {"attributes.`Run Name`": 310, "runDateAndNestInfo": 140}
_LAST_WIDTHS: Final = {"duration": 90}
_METRIC_WIDTH: Final = 175
_TAG_WIDTH: Final = 100
"""Pixels in which names are seen whole; the page wants every column's width, in their order."""


def view_tags(columns: Sequence[str] = COLUMNS) -> dict[str, str]:
    """Tags of an experiment: the page is for trained models, and has a saved view with `columns` and charts.

    MLflow keeps the columns and charts that a person chooses in the browser, except for a saved view: a tag
    `mlflow.sharedViewState.<key>` of the experiment, which the page lists by name and opens by address.
    """
    now = int(time.time() * 1000)
    chosen = {column: _METRIC_WIDTH if column.startswith("metrics.") else _TAG_WIDTH for column in columns}
    widths = {**_FIRST_WIDTHS, **chosen, **_LAST_WIDTHS}
    state = {"selectedColumns": list(columns), "columnOrder": list(widths), "columnWidths": widths, **chart_state()}
    saved = {"name": "Results", "createdAt": now, "updatedAt": now, "state": json.dumps(state)}
    return {
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{VIEW_KEY}": json.dumps(saved),
    }


def view_address(server: str, experiment_id: str) -> str:
    """The address of the view in MLflow's page: the runs of an experiment, in the mode for trained models."""
    return f"{server}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={VIEW_KEY}"
