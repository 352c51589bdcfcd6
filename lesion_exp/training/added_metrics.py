"""Metrics of torchmetrics, or of a trusted package, that a config adds to a run: `+metrics.NAME={_target_: CLASS}`.

torchmetrics is imported only where a config adds a metric: most commands do not need it.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd

from lesion_exp.config.instantiate import asked_for, instantiate, resolve_target
from lesion_exp.config.registered import TARGET
from lesion_exp.errors import ConfigError, nearest
from lesion_exp.evaluation.predictions import FloatArray, IntArray, classes_of
from lesion_exp.evaluation.registry import METRICS
from lesion_exp.evaluation.weighted import Score
from lesion_exp.tracking.stored_run import MODES_TAG

if TYPE_CHECKING:
    from torchmetrics import Metric

log = logging.getLogger(__name__)

GROUP: Final = "metrics"
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?<!_low)(?<!_high)")
_EXAMPLE: Final = "{_target_: torchmetrics.classification.MulticlassCohenKappa}"

Mode = Literal["max", "min"]


def check_added_metrics(config: Mapping[str, Any]) -> None:
    """Checks names, classes and keys of the metrics that the job `config` adds, before its data are read.

    Raises:
        ConfigError: a name is not allowed or is that of another metric, a class is no metric, or a key is not one of
            its parameters.
    """
    for name, node in config[GROUP].items():
        place = f"{GROUP}.{name}"
        _check_name(name, place)
        if not isinstance(node, Mapping) or TARGET not in node:
            raise ConfigError(
                f"expected a metric in {place}, for example +{place}={_EXAMPLE}, got {node!r}; ~{place} takes it out"
            )
        found = _class_of(node, place)
        named = [key for key, parameter in inspect.signature(found).parameters.items()
                 if parameter.kind is not parameter.VAR_KEYWORD]  # fmt: skip
        for key in node:
            if key not in {TARGET, *named}:
                raise ConfigError(
                    f"expected a parameter of {node[TARGET]}, got {place}.{key}; "
                    f"{nearest(str(key), set(named) - {'num_classes'})}"
                )


def try_added_metrics(config: Mapping[str, Any], num_classes: int) -> None:
    """Checks that each metric that the job `config` adds gives one number for predictions of `num_classes` classes.

    Raises:
        ConfigError: a metric does not give one number, or refuses its parameters.
    """
    import torch

    for name, metric in make_added_metrics(config, num_classes).items():
        place, target = f"{GROUP}.{name}", config[GROUP][name][TARGET]
        probs = torch.rand(4 * num_classes, num_classes, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
        try:
            value = _alone(metric, probs, torch.arange(num_classes).repeat(4))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"expected {place} to take probabilities (N, {num_classes}) and labels (N,), but {target} raises: "
                f"{error}; change its parameters, or choose another class"
            ) from error
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            is_tensor = isinstance(value, torch.Tensor)
            what = f"a tensor of shape {tuple(value.shape)}" if is_tensor else f"a {type(value).__name__}"
            raise ConfigError(
                f"expected {place} to be a metric that gives one number, but {target} gives {what}; set "
                f"{place}.average=macro where it takes that, or choose another class"
            )


def make_added_metrics(config: Mapping[str, Any], num_classes: int) -> dict[str, Metric]:
    """Returns the metrics that the job `config` adds, by name.

    `num_classes` is passed to the metrics that have this parameter.

    Raises:
        ConfigError: a class refuses its parameters.
    """
    found: dict[str, Metric] = {}
    for name, node in config.get(GROUP, {}).items():
        place = f"{GROUP}.{name}"
        found[name] = instantiate(node, place, **asked_for(node, place, {"num_classes": num_classes}))
    return found


def added_scores(config: Mapping[str, Any] | None, table: pd.DataFrame) -> dict[str, Score]:
    """Returns the metrics that the job `config` adds, as functions of probabilities and true classes, for evaluations.

    `table` is a predictions table with the classes of the network. A metric that fails on some images, for example
    because a draw of the bootstrap lacks a class, is undefined (NaN) there, and the log says so once.

    Raises:
        ConfigError: a class refuses its parameters.
    """
    if config is None or not config.get(GROUP):
        return {}
    made = make_added_metrics(config, len(classes_of(table)))
    return {name: _score_of(name, metric) for name, metric in made.items()}


def _score_of(name: str, metric: Metric) -> Score:
    import torch

    has_failed = False

    def score(probs: FloatArray, true: IntArray) -> float:
        nonlocal has_failed
        metric.reset()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of classes that a draw lacks
                return float(_alone(metric, torch.from_numpy(probs.astype(np.float32)), torch.from_numpy(true)))
        except (ValueError, RuntimeError, ArithmeticError, IndexError) as error:
            if not has_failed:
                log.warning("%s.%s is undefined on %d images, or on draws of them: %s", GROUP, name, len(true), error)
            has_failed = True
            return float("nan")

    return score


def added_to_any(
    configs: Iterable[Mapping[str, Any]], num_classes: int
) -> tuple[dict[str, tuple[Score, bool | None]], list[str]]:
    """Returns the metrics that any of several jobs adds, and notes on those that are left out, for comparisons.

    A metric is computed for the predictions of all jobs. It is left out if two jobs give its name to different metrics,
    or if this process cannot make it, for example because its package is not trusted.

    Returns:
        The function of each metric, with whether higher values are better (None: its class does not say), by name; and
        a sentence for each metric that is left out.
    """
    nodes: dict[str, list[Any]] = {}
    for config in configs:
        added = config.get(GROUP)
        for name, node in added.items() if isinstance(added, Mapping) else ():
            nodes.setdefault(name, []).append(node)
    found: dict[str, tuple[Score, bool | None]] = {}
    notes = []
    for name, given in nodes.items():
        place = f"{GROUP}.{name}"
        if any(node != given[0] for node in given):
            notes.append(f"{place} is left out: it is not the same metric in all jobs")
            continue
        try:
            metric = make_added_metrics({GROUP: {name: given[0]}}, num_classes)[name]
        except ConfigError as error:
            notes.append(f"{place} is left out: {error}")
            continue
        higher = metric.higher_is_better
        if higher is None:
            notes.append(f"{place}: its class does not say which values are better, so the figure leaves it out")
        found[name] = _score_of(name, metric), higher
    return found, notes


def mode_of_added(config: Mapping[str, Any], name: str) -> Mode | None:
    """Returns the better direction of the added metric `name`: `max`, `min`, or None if its class does not say."""
    place = f"{GROUP}.{name}"
    higher = getattr(_class_of(config[GROUP][name], place), "higher_is_better", None)
    return None if higher is None else "max" if higher else "min"


def tags_of_added(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns the tag from which `best:val/NAME` reads the better directions of the added metrics.

    The result is empty if the job adds no metric.
    """
    modes = {name: mode_of_added(config, name) for name in config[GROUP]}
    return {MODES_TAG: json.dumps(modes)} if modes else {}


def _check_name(name: object, place: str) -> None:
    from torchmetrics import MetricCollection

    from lesion_exp.epoch_metric import OWN_NAMES

    text = str(name)
    if not _NAME.fullmatch(text):
        raise ConfigError(
            f"expected letters, digits and underscores, without _low or _high at the end, as the name of a metric, got "
            f"{place}; choose another, such as {GROUP}.kappa"
        )
    if text in METRICS or text in OWN_NAMES or hasattr(MetricCollection, text):
        raise ConfigError(
            f"expected a name that no other metric has, got {place}; choose another, such as {GROUP}.my_{text}"
        )


def _class_of(node: Mapping[str, Any], place: str) -> Any:
    from torchmetrics import Metric

    found = resolve_target(node[TARGET], place)
    if not (inspect.isclass(found) and issubclass(found, Metric)):
        raise ConfigError(
            f"expected a class derived from torchmetrics.Metric in {place}.{TARGET}, got {node[TARGET]}; an example is "
            f"+{place}={_EXAMPLE}"
        )
    return found


def _alone(metric: Metric, probs: Any, true: Any) -> Any:
    """The metric of these predictions, without the other processes of the run, which do not compute it at this time."""
    metric.distributed_available_fn = lambda: False
    metric.update(probs, true)
    return metric.compute()
