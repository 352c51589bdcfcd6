"""The charts of an experiment in MLflow's page: what a person asks first, before the chart of each single metric."""

from __future__ import annotations

from typing import Any, Final

SECTION: Final = "Results"
LINES: Final = (("train/loss", "val/loss"), ("val/balanced_accuracy",))
"""Curves over the steps; the metrics of a tuple share a chart."""
BARS: Final = ("best/val/balanced_accuracy", "test/balanced_accuracy", "test/auroc_macro")
"""One bar a run."""
PARALLEL_PARAMS: Final = ("backbone", "loss", "optimizer.lr")
PARALLEL_METRICS: Final = ("best/val/balanced_accuracy",)
"""Four axes: with more of them their names lie one over the other in a chart of the page's size."""


def chart_state() -> dict[str, Any]:
    """The part of a saved view that holds the charts, as MLflow's page keeps it.

    They stand in a section of their own at the top; below it the page adds a section for each family of metrics.
    """
    parallel = {
        "type": "PARALLEL",
        "selectedParams": list(PARALLEL_PARAMS),
        "selectedMetrics": list(PARALLEL_METRICS),
        "showAllRuns": True,
    }
    cards = [*(_line(metrics) for metrics in LINES), *({"type": "BAR", "metricKey": metric} for metric in BARS)]
    charts = [{**_placed(number), **card} for number, card in enumerate([*cards, parallel, _line(("train/lr",))])]
    section = {"uuid": SECTION, "name": SECTION, "display": True, "isReordered": True, "isGenerated": False}
    return {
        "compareRunCharts": charts,
        "compareRunSections": [{**section, "deleted": False}],
        "isAccordionReordered": True,  # else the page sorts the sections by name
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
    }


def _placed(number: int) -> dict[str, Any]:
    return {
        "uuid": f"{SECTION}-{number}",
        "metricSectionId": SECTION,
        "runsCountToCompare": 20,
        "isGenerated": False,
        "deleted": False,
    }


def _line(metrics: tuple[str, ...]) -> dict[str, Any]:
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
