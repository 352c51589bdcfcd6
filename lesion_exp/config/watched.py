"""Fills in the metrics that a training monitors, and their direction, where a config leaves them open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lesion_exp.config.instantiate import resolve_target
from lesion_exp.config.registered import TARGET
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.registry import LOSS, PROBE_METRIC, WATCHED_METRIC, entry_of, mode_of

AUTO: Final = "auto"
_USUAL_OF_SCHEDULES: Final = f"val/{LOSS}"


def usual_monitor(config: Mapping[str, Any]) -> str:
    """Returns the metric that decides which epoch is best if the job `config` names none."""
    return WATCHED_METRIC if config.get("pretrain") is None else PROBE_METRIC


def resolve_watched(config: dict[str, Any]) -> None:
    """Sets each `monitor` that is null, and each `mode` that is auto, below `trainer` and `scheduler` of `config`.

    `trainer.monitor` is the default of `trainer.early_stopping.monitor` and of `scheduler.monitor`. A mode is that of
    the metric's entry in the registry or, for a metric that the config adds, that of its class. It stays auto if
    neither states which values are better; the check of the job then names the metric.

    Raises:
        ConfigError: a `monitor` is not the name of a metric, or the class of an added metric is not registered.
    """
    trainer, scheduler = config["trainer"], config["scheduler"]
    stopping = trainer["early_stopping"]
    for key, node in (("trainer", trainer), ("trainer.early_stopping", stopping), ("scheduler", scheduler)):
        value = node.get("monitor")
        if value is not None and not isinstance(value, str):
            raise ConfigError(
                f"expected {key}.monitor to be the name of a metric, got {value!r}; for example "
                f"{key}.monitor={WATCHED_METRIC}"
            )
    given, usual = trainer["monitor"], usual_monitor(config)
    trainer["monitor"] = usual if given is None else given
    if stopping["monitor"] is None:
        # without patience nothing reads the metric, and jobs of earlier versions had this one, which is in their hash
        stopping["monitor"] = given or (WATCHED_METRIC if stopping["patience"] is None else usual)
    if "monitor" in scheduler and scheduler["monitor"] is None:
        scheduler["monitor"] = given or (_USUAL_OF_SCHEDULES if usual == WATCHED_METRIC else usual)
    for node in (stopping, scheduler):
        if node.get("mode") == AUTO:
            node["mode"] = _mode(str(node["monitor"]), config["metrics"]) or AUTO


def _mode(metric: str, added: Mapping[str, Any]) -> str | None:
    """Returns `max` or `min`; None if the metric does not exist, or its class does not state which values are
    better.
    """
    if entry_of(metric) is not None:
        return mode_of(metric)
    name = metric.removeprefix("val/")
    node = added.get(name)
    if not isinstance(node, Mapping) or TARGET not in node:
        return None
    higher = getattr(resolve_target(node[TARGET], f"metrics.{name}"), "higher_is_better", None)
    return None if higher is None else "max" if higher else "min"
