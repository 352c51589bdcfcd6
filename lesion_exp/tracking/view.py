"""The views of an experiment in MLflow's page: the runs in its table, their order, columns and charts."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from lesion_exp.evaluation.registry import WATCHED, WATCHED_METRIC, is_lower_better, shown_in
from lesion_exp.tracking.run_description import CHOICE_TAG, LEAKS_TAG, OVER_SEEDS_TAG, SCORE_TAGS

SECTION: Final = "Results"
LINES: Final = (("train/loss", "val/loss"), (WATCHED_METRIC,))
"""Curves over the steps; the metrics of a tuple share a chart."""
BARS: Final = (f"best/{WATCHED_METRIC}", *(f"test/{name}" for name in shown_in("sweep")))
"""Bar charts, with a bar for each run."""
PARALLEL_PARAMS: Final = ("backbone", "loss", "optimizer.lr")
PARALLEL_METRICS: Final = (f"best/{WATCHED_METRIC}",)
CHOICES_SECTION: Final = "Choices"
"""A section as wide as the page, in which the names of up to seven axes of parallel coordinates do not overlap."""
_OF_AN_EPOCH: Final = tuple(f"val/{name}" for name in shown_in("epoch") if name != WATCHED)
_OF_A_RUN: Final = (*LINES, _OF_AN_EPOCH, ("train/lr",))
VIEWS: Final = "mlflow.sharedViewState."
"""Prefix of the tags of an experiment that contain views; the name in the page's address follows."""
VIEW_KEY: Final = "lesion-exp"
"""Name of the view of single runs in the page's address."""
CHOICES_KEY: Final = "lesion-exp-choices"
"""Name of the view in which cells of a sweep that differ only in seeds and folds are one row."""
COLUMNS: Final = {
    "params.`backbone`": 92,
    "params.`loss`": 108,
    "params.`optimizer.lr`": 98,
    "params.`seed`": 54,
    **{f"tags.`{name}`": 62 for name in SCORE_TAGS.values()},
    f"tags.`{LEAKS_TAG}`": 62,
    f"tags.`{OVER_SEEDS_TAG}`": 300,
    "tags.`dataset`": 120,
    "params.`sampler`": 100,
    f"metrics.`best/{WATCHED_METRIC}`": 185,
    f"metrics.`test/{WATCHED}`": 175,
}
"""Columns of the table of runs, with widths in pixels; the first seven and the run's name fit a page of 1024 pixels.

Scores are tags, which are rounded and have short names; MLflow shows a metric with all its digits and its whole name.
"""
CHOICES_COLUMNS: Final = {
    f"metrics.`best/{WATCHED_METRIC}`": 220,
    **{f"metrics.`test/{name}`": 220 for name in shown_in("sweep")},
    f"tags.`{OVER_SEEDS_TAG}`": 270,
    "params.`seed`": 54,
}
MOST_SWEEP_VIEWS: Final = 20
"""Number of views of sweeps that an experiment keeps: the page lists all of its views in one menu."""
_SWEEP_VIEW: Final = re.compile(rf"{re.escape(VIEWS)}{VIEW_KEY}-(?P<sweep_id>\d{{8}}-\d{{6}}-[0-9a-f]{{4}})")
RUN_NAME: Final = "attributes.`Run Name`"
"""MLflow's key of the first column. The second one, the date, only has room for the sign of the run's status."""
_OF_A_CELL: Final = {name: width for name, width in COLUMNS.items() if name == "params.`seed`" or "tags" in name}
_KEY_WIDTH: Final = 130
_FIRST_WIDTHS: Final = {RUN_NAME: 160, "runDateAndNestInfo": 44}
_LAST_WIDTHS: Final = {"duration": 90}
_HIDDEN_KINDS: Final = ("preview", "comparison")
_BEST_FIRST: Final = {"orderByKey": f"metrics.`best/{WATCHED_METRIC}`", "orderByAsc": is_lower_better(WATCHED_METRIC)}


def view_tags(known: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the tags with the views of an experiment that are missing in its tags `known`, or outdated there.

    MLflow stores the columns and charts that a user chooses in the browser, except for saved views: a tag
    `mlflow.sharedViewState.<key>` of the experiment, which the page lists by name and opens by address. A view that a
    user has saved again in the page is kept.
    """
    tags = {"mlflow.experimentKind": "custom_model_development"}
    views = {VIEW_KEY: ("Results", view_state()), CHOICES_KEY: ("Results over seeds", choices_state())}
    for key, (name, state) in views.items():
        tags[f"{VIEWS}{key}"] = _saved(name, state)
    known = known or {}
    return {tag: text for tag, text in tags.items() if tag not in known or _is_outdated(known[tag], text)}


def view_state() -> dict[str, Any]:
    """Returns the view of single runs, in the format of MLflow's page."""
    return {**table_state(), **_columns(COLUMNS), **chart_state()}


def choices_state() -> dict[str, Any]:
    """Returns the view of choices: a row for each combination of values except seeds and folds, with their means."""
    by_choice = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": CHOICE_TAG}]}
    return {
        "searchFilter": f"tags.{CHOICE_TAG} != '' AND tags.kind = 'train'",
        **_BEST_FIRST,
        **_columns(CHOICES_COLUMNS, {RUN_NAME: 420}),
        **chart_state(),
        "groupBy": by_choice,
        "useGroupedValuesInCharts": True,
    }


def sweep_view(name: str, sweep_id: str, keys: Sequence[str]) -> str:
    """Returns the saved view of the cells of a sweep over `keys`, as the text of a tag of its experiment."""
    state = {
        "searchFilter": f"tags.sweep_id = '{sweep_id}' AND tags.kind = 'train'",
        **_BEST_FIRST,
        **_columns({**{f"params.`{key}`": _KEY_WIDTH for key in keys}, **_OF_A_CELL}),
        **chart_state(keys),
    }
    return _saved(f"{name} ({sweep_id})", state)


def sweep_view_key(sweep_id: str) -> str:
    """Returns the name of the view of the cells of a sweep in the page's address."""
    return f"{VIEW_KEY}-{sweep_id}"


def surplus_sweeps(known: Mapping[str, str]) -> list[str]:
    """Returns the ids of the sweeps whose views are too many among the tags `known` of an experiment, the oldest first.

    A view that a user has saved again in the page is kept, and not counted.
    """
    own = {tag: match["sweep_id"] for tag in known if (match := _SWEEP_VIEW.fullmatch(tag))}
    untouched = sorted(sweep_id for tag, sweep_id in own.items() if _is_outdated(known[tag], _saved("", {})))
    return untouched[:-MOST_SWEEP_VIEWS]


def table_state() -> dict[str, Any]:
    """Returns filter and order of the table: all runs except previews and comparisons, the best score first."""
    return {"searchFilter": " AND ".join(f"tags.kind != '{kind}'" for kind in _HIDDEN_KINDS), **_BEST_FIRST}


def chart_state(choices: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the charts of a view of several runs, in the format of MLflow's page.

    The charts are in sections at the top; below them the page adds a section for each family of metrics. With
    `choices`, parameters with several values, the parallel coordinates have these axes and come first.
    """
    parallel = {
        "type": "PARALLEL",
        "selectedParams": list(choices or PARALLEL_PARAMS),
        "selectedMetrics": list(PARALLEL_METRICS),
        "showAllRuns": True,
    }
    cards = [*(_line(metrics) for metrics in LINES), *({"type": "BAR", "metricKey": metric} for metric in BARS)]
    charts = [_placed(SECTION, number, card) for number, card in enumerate([*cards, _line(("train/lr",))])]
    sections = [_section(SECTION, columns=2), _section(CHOICES_SECTION, columns=1)]
    return {
        "compareRunCharts": [*charts, _placed(CHOICES_SECTION, 0, parallel)],
        "compareRunSections": sections[::-1] if choices else sections,
        "isAccordionReordered": True,  # otherwise the page sorts the sections by name
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
    }


def run_chart_state() -> dict[str, Any]:
    """Returns the charts of a single run: its curves, which come before the sections that the page adds."""
    return {
        "compareRunCharts": [_placed(SECTION, number, _line(metrics)) for number, metrics in enumerate(_OF_A_RUN)],
        "compareRunSections": [_section(SECTION, columns=2)],
        "isAccordionReordered": True,
        "autoRefreshEnabled": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def _section(name: str, columns: int) -> dict[str, Any]:
    return {
        "uuid": name,
        "name": name,
        "display": True,
        "isReordered": True,
        "isGenerated": False,
        "deleted": False,
        "columns": columns,
    }


def _placed(section: str, number: int, card: dict[str, Any]) -> dict[str, Any]:
    return {
        "uuid": f"{section}-{number}",
        "metricSectionId": section,
        "runsCountToCompare": 20,
        "isGenerated": False,
        "deleted": False,
        **card,
    }


def _line(metrics: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "LINE",
        "metricKey": metrics[0],
        "selectedMetricKeys": list(metrics),
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def _columns(columns: Mapping[str, int], other: Mapping[str, int] | None = None) -> dict[str, Any]:
    widths = {**_FIRST_WIDTHS, **columns, **_LAST_WIDTHS, **(other or {})}  # the page needs them in this order
    return {"selectedColumns": list(columns), "columnOrder": list(widths), "columnWidths": widths}


def _saved(name: str, state: Mapping[str, Any]) -> str:
    now = int(time.time() * 1000)
    return json.dumps({"name": name, "createdAt": now, "updatedAt": now, "state": json.dumps(state)})


def _is_outdated(known: str, text: str) -> bool:
    """Returns whether `known` is a view of an earlier version of this package that no user has saved again."""
    try:
        before, now = json.loads(known), json.loads(text)
        return bool(before["createdAt"] == before["updatedAt"] and before["state"] != now["state"])
    except (ValueError, TypeError, KeyError):
        return False


def runs_address(server: str, experiment_id: str) -> str:
    """Returns the address of the runs of an experiment in MLflow's page, in the mode for trained models."""
    return f"{server}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def view_link(experiment_id: str, key: str) -> str:
    """Returns the address of a saved view within MLflow's page."""
    return view_address("", experiment_id, key).removeprefix("/")


def cells_link(experiment_id: str, sweep_id: str) -> str:
    """Returns the address of the cells of a sweep within MLflow's page, where no view of them is saved."""
    condition = quote(f"tags.sweep_id = '{sweep_id}' AND tags.kind = 'train'")
    return f"{runs_address('', experiment_id)}&searchFilter={condition}".removeprefix("/")


def view_address(server: str, experiment_id: str, key: str = VIEW_KEY) -> str:
    """Returns the address of a saved view of the runs of an experiment."""
    return f"{runs_address(server, experiment_id)}&viewStateShareKey={key}"
