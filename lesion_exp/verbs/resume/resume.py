"""Goes on with a run that stopped before its end, as the same run in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lesion_exp.errors import ConfigError
from lesion_exp.tracking.find import Run
from lesion_exp.trained_runs.trained_run import trained_run
from lesion_exp.training.checkpoint import link_to
from lesion_exp.training.run import JobResult, train


def resume(run: Run, paths: Mapping[str, Any], data_root: Path | None = None) -> JobResult:
    """Trains the rest of `run` and evaluates it; `paths` are those of this machine, `data_root` where the data lie now.

    Without a checkpoint, training begins at its first step. On a CPU the final weights are, bit for bit, those of a run
    that was never stopped.

    Raises:
        ConfigError: the run has finished, is alive, or is none that was trained here.
        DataError: its data are no longer what they were.
    """
    if run.status == "FINISHED":
        raise ConfigError(
            f"expected a run that stopped, but {run.run_id} has finished; lesion-exp reproduce run={run.run_id} trains "
            f"it once more, lesion-exp resume run={run.run_id} trainer.max_epochs=N trains it longer"
        )
    if run.tags.get("kind") != "train":
        raise ConfigError(f"expected a run that trains, got {run.run_id} of kind {run.tags.get('kind', 'unknown')}")
    return train(trained_run(run, paths, data_root).frozen_job("its training to go on"), link_to(run))
