"""Which results of a run are metrics in MLflow; every other one is in the JSON files of its evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lesion_exp.evaluation.registry import LOSS, is_added, shown_in

OF_A_CLASS: Final = ("precision", "recall", "specificity", "f1", "auroc")
"""Results of a class that a reader looks for first."""
HEADLINE: Final = tuple(name for name in shown_in("tracked") if name not in {LOSS, *OF_A_CLASS})
"""Results of a whole part that a reader looks for first, by the names of the registry of metrics."""
SECTIONS: Final = ("isic", "calibrated", "conformal", "operating")
"""What stands before the names of results that are not plain ones; no such result is a metric."""
TEST: Final = "test"
FOLDER: Final = "evaluation"
"""Folder of a run's evaluations, and what the names of metrics of other data than its own parts begin with."""
_ENDS: Final = ("_low", "_high")
_OF_A_PART: Final = (LOSS, *HEADLINE)
OF_SEVERAL_RUNS: Final = tuple(f"best/val/{name}" for name in (LOSS, *shown_in("epoch"))) + tuple(
    f"{TEST}/{name}" for name in _OF_A_PART
)
"""Results whose mean over several runs is a metric of the run that stands for them."""
_OF_AN_EPOCH: Final = frozenset((LOSS, *shown_in("epoch")))


def is_metric(name: str) -> bool:
    """Whether a result is a metric in MLflow.

    These are: `best/...`; `val/...` as every epoch has it; `test/...` for `HEADLINE` and the loss, with `_low` and
    `_high`, and for `OF_A_CLASS` of each class; `evaluation/DATA/...` for `HEADLINE` and the loss, with both ends;
    and the metrics that a config adds, in each of these places.
    """
    first, _, rest = name.partition("/")
    if first == "best":
        return True
    if first == "val":
        return rest in _OF_AN_EPOCH or rest.startswith("recall/") or is_added(rest)
    if first == TEST:
        return _is_headline(rest) or ("/" in rest and rest.partition("/")[0] in OF_A_CLASS) or is_added(rest)
    of_data = rest.partition("/")[2]
    return first == FOLDER and (_is_headline(of_data) or is_added(of_data))


def _is_headline(name: str) -> bool:
    return name in _OF_A_PART or any(name.removesuffix(end) in _OF_A_PART for end in _ENDS)


def only_metrics(results: Mapping[str, float]) -> dict[str, float]:
    """Those of `results` that are metrics in MLflow."""
    return {name: value for name, value in results.items() if is_metric(name)}
