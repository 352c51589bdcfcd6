"""The metrics of an epoch by which a training or a sweep can be steered: their names, and which direction is better."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from lesion_exp.errors import ConfigError, did_you_mean

WATCHED_METRIC: Final = "val/balanced_accuracy"
"""The metric that decides which epoch is best; higher is better."""
EPOCH_METRICS: Final = ("accuracy", "balanced_accuracy", "f1_macro", "auroc_macro")
"""Metrics logged after each validation under `val/`, beside `val/loss` and the recall of each class."""
LOSSES: Final = ("train/loss", "val/loss")
"""The metrics of which a lower value is better."""
_RECALL: Final = "val/recall/"


def check_metric(
    key: str, name: object, classes: Collection[str] | None = None, *, only_validation: bool = False
) -> None:
    """Checks that the metric `name`, which `key` of the config names, is one that every epoch has.

    `classes` are those of the data set, where they are known; until then the recall of any class is accepted.

    Raises:
        ConfigError: there is no such metric.
    """
    text = str(name)
    known = [*LOSSES[only_validation:], *(f"val/{metric}" for metric in EPOCH_METRICS)]
    if text in known or (classes is None and text.startswith(_RECALL) and text != _RECALL):
        return
    recalls = [f"{_RECALL}{class_name}" for class_name in classes or ()]
    if text in recalls:
        return
    listed = ", ".join([*known, *(recalls or [f"{_RECALL}CLASS"])])
    meant = _by_habit(text, known) or did_you_mean(text, [*known, *recalls])
    raise ConfigError(f"expected {key} to be a metric of an epoch ({listed}), got {text!r}{meant}")


def check_direction(key: str, direction: str, name: str, *, lower: str, higher: str) -> None:
    """Checks that `direction`, the value of `key`, is `lower` for a loss and `higher` for any other metric `name`.

    Raises:
        ConfigError: it is the other one.
    """
    right = lower if name in LOSSES else higher
    if direction != right:
        raise ConfigError(
            f"expected {key}={right} for the metric {name}, of which a {'lower' if right == lower else 'higher'} value "
            f"is better, got {direction!r}; set {key}={right}"
        )


def _by_habit(text: str, known: Collection[str]) -> str:
    """The name that other frameworks' habits mean: `val_loss`, `valid/acc`, `auc`."""
    words = text.replace("_", "/", 1).removeprefix("valid/").removeprefix("validation/").removeprefix("val/")
    habits = {
        "acc": "val/accuracy", "bacc": "val/balanced_accuracy", "balanced/acc": "val/balanced_accuracy",
        "bal/acc": "val/balanced_accuracy", "balanced_acc": "val/balanced_accuracy", "f1": "val/f1_macro",
        "auc": "val/auroc_macro", "auroc": "val/auroc_macro", "roc_auc": "val/auroc_macro",
        "roc/auc": "val/auroc_macro", "loss": "val/loss", "train/loss": "train/loss", "training/loss": "train/loss",
    }  # fmt: skip
    meant = habits.get(words.lower(), f"val/{words}")
    return f"; did you mean {meant!r}?" if meant in known else ""
