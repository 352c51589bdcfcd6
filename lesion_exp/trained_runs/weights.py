"""Which weights of a run are to predict, and the config that they are used with on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from lesion_exp.errors import ConfigError, check_choice
from lesion_exp.model.precision import resolve_precision
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import download_artifact
from lesion_exp.trained_runs.trained_run import TrainedRun

WhichWeights = Literal["best", "last"] | Path
"""A checkpoint of the run, or a file with other weights of it."""


def check_calibration(calibration: str, checkpoint: WhichWeights) -> None:
    """Checks that `calibration` is one, and that it belongs to the weights of `checkpoint`.

    Raises:
        ConfigError: it is or does not.
    """
    check_choice("calibration", calibration, CHOICES["evaluation.calibration"])
    if calibration != "none" and checkpoint != "best":
        raise ConfigError(
            f"expected calibration=none with other weights than the run's best, got {calibration}: it was "
            f"fitted on what the best ones say; leave calibration= or the checkpoint out"
        )


def weights_of(
    opened: TrainedRun,
    checkpoint: WhichWeights = "best",
    tta: str | None = None,
    trainer: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[dict[str, Any], Path]:
    """The config with which the run predicts on this machine, and the file of its weights.

    Args:
        opened: the run.
        checkpoint: which weights.
        tta: another test-time augmentation than the run's own.
        trainer: `accelerator` and `precision`, where they are chosen; the precision is else the run's.

    Raises:
        ConfigError: a run without a network, or one that has not finished.
        DataError: its checkpoint is gone.
    """
    run = opened.run
    views = {} if tta is None else {"tta": tta}
    config = replace(opened, evaluation={**opened.evaluation, **views}).job_config("predictions")
    chosen = {key: value for key, value in trainer.items() if key != "devices"}
    accelerator = "cpu" if config["trainer"]["accelerator"] == "cpu" else "auto"  # GPUs may not be where it is used
    node = {**config["trainer"], "accelerator": accelerator, "devices": 1, **chosen}
    if "precision" in chosen:  # auto, where the user says so, is what suits this machine, not what the run had
        node["precision"] = resolve_precision(node["precision"], node["accelerator"])
    config = {**config, "trainer": node}
    if isinstance(checkpoint, Path):
        return config, checkpoint.absolute()
    if run.status != "FINISHED":
        raise ConfigError(
            f"expected a run that has finished, got {run.run_id} ({run.status}); lesion-exp resume run={run.run_id} "
            f"goes on with one that stopped, and run=FILE.ckpt takes the weights that it has"
        )
    return config, download_artifact(run, artifacts.checkpoint(checkpoint))
