"""Adds the MLflow model to a run that has none: a cell of a sweep, or a run of an earlier version."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from lesion_exp.config.project import Project
from lesion_exp.model.mlflow_model import has_model
from lesion_exp.model.model_card import completed
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.stored_run import Run, download_artifact
from lesion_exp.trained_runs.trained_run import check_finished, stored_calibrators, trained_run

if TYPE_CHECKING:
    from lesion_exp.model.restore import Restored
    from lesion_exp.model.save_model import Content

log = logging.getLogger(__name__)


def ensure_model(run: Run, project: Project) -> None:
    """Adds the MLflow model to `run` if it has none, or an incomplete one; `project` is that of this machine.

    Raises:
        ConfigError: the run has not finished, or has no network.
        DataError: its checkpoint is missing.
    """
    if not has_model(run):
        restored, content = best_network(run, project)
        from lesion_exp.model.save_model import keep_model

        log.info("the run has no complete model yet: it is added")
        keep_model(RunWriter.of(run), restored.classifier.backbone, content)


def best_network(run: Run, project: Project) -> tuple[Restored, Content]:
    """Returns the best network of `run` and the content of its checkpoint, with a complete card from any version.

    Raises:
        ConfigError, DataError: see `ensure_model`.
    """
    check_finished(run)
    config = trained_run(run, project).job_config("a model")
    from lesion_exp.model.checkpoint_file import read_checkpoint
    from lesion_exp.model.restore import restore

    checkpoint = download_artifact(run, artifacts.checkpoint())
    content = read_checkpoint(checkpoint)
    content["lesion_exp"] = completed(content["lesion_exp"], config, run.run_id, stored_calibrators(run))
    return restore(config, checkpoint, run), content
