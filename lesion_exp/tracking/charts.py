"""The charts of an experiment in MLflow's page: what a person asks first, before the chart of each single metric."""

from __future__ import annotations

from typing import Any, Final

SECTION: Final = "Results"
LINES: Final = (
    ("loss: training and validation", ("train/loss", "val/loss")),
    ("validation, balanced accuracy", ("val/balanced_accuracy",)),
    ("learning rate", ("train/lr",)),
)
"""Curves over the steps: a title and the metrics in it."""
BARS: Final = (
    ("best epoch, balanced accuracy", "best/val/balanced_accuracy"),
    ("test, balanced accuracy", "test/balanced_accuracy"),
    ("test, macro AUROC", "test/auroc_macro"),
)
"""One bar a run."""
PARALLEL_PARAMS: Final = ("backbone", "loss", "sampler", "optimizer.lr", "seed")
PARALLEL_METRICS: Final = ("best/val/balanced_accuracy", "test/balanced_accuracy")


def chart_state() -> dict[str, Any]:
    """The part of a saved view that holds the charts, as MLflow's page keeps it.

    They stand in a section of their own at the top; below it the page adds a section for each family of metrics.
    """
    charts = [_line(number, *line) for number, line in enumerate(LINES)]
    charts += [_bar(len(charts) + number, *bar) for number, bar in enumerate(BARS)]
    charts.append(
        {
            **_card(len(charts), "PARALLEL", "choices and results"),
            "selectedParams": list(PARALLEL_PARAMS),
            "selectedMetrics": list(PARALLEL_METRICS),
            "showAllRuns": True,
        }
    )
    section = {"uuid": SECTION, "name": SECTION, "display": True, "isReordered": True, "isGenerated": False}
    return {
        "compareRunCharts": charts,
        "compareRunSections": [{**section, "deleted": False}],
        "isAccordionReordered": True,  # else the page sorts the sections by name
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
    }


def _card(number: int, kind: str, title: str) -> dict[str, Any]:
    return {
        "uuid": f"{SECTION}-{number}",
        "type": kind,
        "metricSectionId": SECTION,
        "displayName": title,
        "runsCountToCompare": 20,
        "isGenerated": False,
        "deleted": False,
    }


def _line(number: int, title: str, metrics: tuple[str, ...]) -> dict[str, Any]:
    return {
        **_card(number, "LINE", title),
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


def _bar(number: int, title: str, metric: str) -> dict[str, Any]:
    return {**_card(number, "BAR", title), "metricKey": metric}
