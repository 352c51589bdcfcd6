"""The view of an experiment in MLflow's page: which columns stand in its list of runs."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Final

VIEW_KEY: Final = "lesion-exp"
"""Name of the view in the page's address: `#/experiments/<id>/runs?viewStateShareKey=lesion-exp`."""
COLUMNS: Final = (
    "tags.`dataset`",
    "tags.`backbone`",
    "tags.`sampler`",
    "tags.`loss`",
    "metrics.`best/val/balanced_accuracy`",
    "metrics.`test/balanced_accuracy`",
    "metrics.`test/auroc_macro`",
    "metrics.`test/accuracy`",
    "tags.`leaky`",
)
"""What a list of runs has to answer: what was trained on what, and how good it is."""


def view_tags(columns: Sequence[str] = COLUMNS) -> dict[str, str]:
    """Tags of an experiment: the page is for trained models, and has a saved view with `columns`.

    MLflow keeps the columns that a person chooses in the browser, except for a saved view: a tag
    `mlflow.sharedViewState.<key>` of the experiment, which the page lists by name and opens by address.
    """
    now = int(time.time() * 1000)
    state = {"selectedColumns": list(columns)}
    saved = {"name": "Results", "createdAt": now, "updatedAt": now, "state": json.dumps(state)}
    return {
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{VIEW_KEY}": json.dumps(saved),
    }
