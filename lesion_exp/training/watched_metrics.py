"""The metrics by which epochs, schedulers, early stopping and searches decide: that epochs have them, and direction.

It imports nothing heavy, since a sweep checks its metrics before its first cell starts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, Literal, NamedTuple

from lesion_exp.errors import ConfigError, did_you_mean
from lesion_exp.evaluation.registry import AUROC_MACRO, LOSS, METRICS, PROBED, is_added, mode_of, shown_in

_RECALL: Final = "val/recall/"
_STAGES: Final = ("validation", "valid", "val")


class Watched(NamedTuple):
    """The metric by which the best epoch is chosen."""

    metric: str
    """Its full name, such as `val/auroc_macro`."""
    mode: Literal["min", "max"]
    """The direction in which it is better."""

    def is_better(self, value: float, than: float) -> bool:
        """Returns whether `value` is better than another."""
        return value < than if self.mode == "min" else value > than


def watched_by(config: Mapping[str, Any]) -> Watched:
    """Returns the metric by which the job `config` chooses its best epoch, `trainer.monitor`.

    Raises:
        ConfigError: the class of an added metric does not say which values are better.
    """
    metric = str(config["trainer"]["monitor"])
    own = metric.removeprefix("val/")
    if own not in config["metrics"]:
        return Watched(metric, mode_of(metric))
    return Watched(metric, _mode_of_added(config, "trainer.monitor", metric))


def check_watched(config: Mapping[str, Any], classes: Collection[str] | None = None) -> None:
    """Checks that the job `config` watches metrics that its epochs have, in the right direction.

    `classes` are those of the validation part; without them the recall of any class is accepted.

    Raises:
        ConfigError: a metric does not exist, is not defined for the validation part, or is watched in the wrong
            direction.
    """
    scheduler, stopping, added = config["scheduler"], config["trainer"]["early_stopping"], config["metrics"]
    pretrains = config.get("pretrain") is not None
    monitor = config["trainer"]["monitor"]
    check_metric("trainer.monitor", monitor, classes, only_validation=True, added=added, pretrains=pretrains)
    watched_by(config)
    watching = {"scheduler": scheduler} if "monitor" in scheduler else {}
    if stopping["patience"] is not None:
        watching["trainer.early_stopping"] = stopping
    for place, node in watching.items():
        check_metric(f"{place}.monitor", node["monitor"], classes, added=added, pretrains=pretrains)
        if "mode" in node:
            check_direction(f"{place}.mode", node["mode"], node["monitor"], lower="min", higher="max", config=config)


def check_metric(
    key: str,
    name: object,
    classes: Collection[str] | None = None,
    *,
    only_validation: bool = False,
    added: Collection[str] = (),
    pretrains: bool = False,
) -> None:
    """Checks that every epoch has the metric `name`, the value of `key` in the config.

    `classes` are those of `check_watched`; `added` are the names of the metrics that the config adds. A job that
    `pretrains` has those of its probe instead.

    Raises:
        ConfigError: there is no such metric, or it is not defined for the images of `classes`.
    """
    text = str(name)
    if pretrains:
        known = [*([] if only_validation else ["train/loss"]), *(f"val/{metric}" for metric in PROBED)]
        if text not in known:
            raise ConfigError(
                f"expected {key} to be a metric of a pretraining ({', '.join(known)}), got {text!r}; set "
                f"{key}={known[-2]}"
            )
        return
    losses = ["val/loss"] if only_validation else ["train/loss", "val/loss"]
    known = [*losses, *(f"val/{metric}" for metric in (*shown_in("epoch"), *added))]
    if text == f"val/{AUROC_MACRO}" and classes is not None and len(classes) < 2:
        raise ConfigError(
            f"expected validation images of at least two classes for {key}={text}, since an area under the ROC curve "
            f"ranks the images of one class against those of others, got images of {', '.join(classes) or 'none'} "
            f"alone; set {key}=val/balanced_accuracy, or choose a split whose validation part has further classes"
        )
    if text in known or (classes is None and text.startswith(_RECALL) and text != _RECALL):
        return
    recalls = [f"{_RECALL}{class_name}" for class_name in classes or ()]
    if text in recalls:
        return
    listed = ", ".join([*known, *(recalls or [f"{_RECALL}CLASS"])])
    meant = _by_habit(text, known) or did_you_mean(text, [*known, *recalls])
    if text.startswith("val/") and is_added(text.removeprefix("val/")):
        meant += f"; '+metrics.{text.removeprefix('val/')}={{_target_: CLASS}}' adds a metric of torchmetrics"
    raise ConfigError(f"expected {key} to be a metric of an epoch ({listed}), got {text!r}{meant}")


def check_direction(
    key: str, direction: str, name: str, *, lower: str, higher: str, config: Mapping[str, Any] | None = None
) -> None:
    """Checks that `direction`, the value of `key`, is `lower` if lower values of the metric `name` are better.

    For a metric that the job `config` adds, its class decides.

    Raises:
        ConfigError: the direction is wrong, or the class of an added metric does not define it.
    """
    is_own = config is not None and name.removeprefix("val/") in config["metrics"]
    mode = _mode_of_added(config, key, name) if config is not None and is_own else mode_of(name)
    right = lower if mode == "min" else higher
    if direction != right:
        raise ConfigError(
            f"expected {key}={right} for the metric {name}, of which a {'lower' if right == lower else 'higher'} value "
            f"is better, got {direction!r}; set {key}={right}"
        )


def _mode_of_added(config: Mapping[str, Any], key: str, name: str) -> Literal["min", "max"]:
    from lesion_exp.training.added_metrics import mode_of_added  # it imports torchmetrics

    mode = mode_of_added(config, name.removeprefix("val/"))
    if mode is None:
        raise ConfigError(
            f"expected a metric for {key} whose class says whether higher values are better, got {name}, whose "
            f"class does not set higher_is_better; derive a class that sets it, in a package of yours (--trust PACKAGE)"
        )
    return mode


def _by_habit(text: str, known: Collection[str]) -> str:
    """A hint at the metric that a name of other frameworks means, such as `val_loss`, `valid/acc` or `auc`."""
    words = text.replace("/", "_").lower()
    if words in {"train_loss", "training_loss"}:
        return "; did you mean 'train/loss'?" if "train/loss" in known else ""
    words = next((words.removeprefix(f"{stage}_") for stage in _STAGES if words.startswith(f"{stage}_")), words)
    names = [name for name, metric in METRICS.items() if words == name or words in metric.habits]
    meant = next((f"val/{name}" for name in names if name == LOSS or f"val/{name}" in known), "")
    return f"; did you mean {meant!r}?" if meant in known else ""
