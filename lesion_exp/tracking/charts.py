"""The charts of MLflow's page: what a person asks first, before the chart of each single metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from lesion_exp.evaluation.registry import WATCHED, WATCHED_METRIC, shown_in

SECTION: Final = "Results"
LINES: Final = (("train/loss", "val/loss"), (WATCHED_METRIC,))
"""Curves over the steps; the metrics of a tuple share a chart."""
BARS: Final = (f"best/{WATCHED_METRIC}", *(f"test/{name}" for name in shown_in("sweep")))
"""One bar a run."""
PARALLEL_PARAMS: Final = ("backbone", "loss", "optimizer.lr")
PARALLEL_METRICS: Final = (f"best/{WATCHED_METRIC}",)
CHOICES_SECTION: Final = "Choices"
"""A section as wide as the page, so that the names of up to seven axes of parallel coordinates stand apart."""
_OF_AN_EPOCH: Final = tuple(f"val/{name}" for name in shown_in("epoch") if name != WATCHED)
_OF_A_RUN: Final = (*LINES, _OF_AN_EPOCH, ("train/lr",))


def chart_state(choices: Sequence[str] = ()) -> dict[str, Any]:
    """The part of a view of several runs that holds the charts, as MLflow's page keeps it.

    Parallel coordinates stand first where `choices`, parameters between whose values was chosen, are their axes. All
    stand in sections of their own at the top; below them the page adds a section for each family of metrics.
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
        "isAccordionReordered": True,  # else the page sorts the sections by name
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
    }


def run_chart_state() -> dict[str, Any]:
    """The charts of a single run: its curves, before the sections of single results that the page adds."""
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
