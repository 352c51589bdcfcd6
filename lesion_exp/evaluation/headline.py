"""Which results of a run are metrics in MLflow; every other one is in the JSON files of its evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lesion_exp.epoch_metric import EPOCH_METRICS

HEADLINE: Final = ("accuracy", "balanced_accuracy", "f1_macro", "auroc_macro", "brier", "ece")
"""Results of a whole part that a reader looks for first, by the names of the registry of metrics."""
OF_A_CLASS: Final = ("precision", "recall", "specificity", "f1", "auroc")
"""Results of a class that a reader looks for first."""
SECTIONS: Final = ("isic", "calibrated", "conformal", "operating")
"""What stands before the names of results that are not plain ones; no such result is a metric."""
LOSS: Final = "loss"
"""What the log loss, `nll` in the registry of metrics, is called in MLflow."""
TEST: Final = "test"
FOLDER: Final = "evaluation"
"""Folder of a run's evaluations, and what the names of metrics of other data than its own parts begin with."""
_ENDS: Final = ("_low", "_high")
_OF_A_PART: Final = (LOSS, *HEADLINE)
OF_SEVERAL_RUNS: Final = tuple(f"best/val/{name}" for name in (LOSS, *EPOCH_METRICS)) + tuple(
    f"{TEST}/{name}" for name in _OF_A_PART
)
"""Results whose mean over several runs is a metric of the run that stands for them."""
_OF_AN_EPOCH: Final = frozenset((LOSS, *EPOCH_METRICS))


def is_metric(name: str) -> bool:
    """Whether a result is a metric in MLflow.

    These are: `best/...`; `val/...` as every epoch has it; `test/...` for `HEADLINE` and the loss, with `_low` and
    `_high`, and for `OF_A_CLASS` of each class; `evaluation/DATA/...` for `HEADLINE` and the loss, with both ends.
    """
    first, _, rest = name.partition("/")
    if first == "best":
        return True
    if first == "val":
        return rest in _OF_AN_EPOCH or rest.startswith("recall/")
    if first == TEST:
        return _is_headline(rest) or ("/" in rest and rest.partition("/")[0] in OF_A_CLASS)
    return first == FOLDER and _is_headline(rest.partition("/")[2])


def _is_headline(name: str) -> bool:
    return name in _OF_A_PART or any(name.removesuffix(end) in _OF_A_PART for end in _ENDS)


def only_metrics(results: Mapping[str, float]) -> dict[str, float]:
    """Those of `results` that are metrics in MLflow."""
    return {name: value for name, value in results.items() if is_metric(name)}
