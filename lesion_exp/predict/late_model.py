"""The model of a run that was made without one: a cell of a sweep, or a run of an earlier version."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from lesion_exp.errors import ConfigError
from lesion_exp.evaluate.member import CHECKPOINT, JOB_FILE, Member, own_tta
from lesion_exp.job.checkpoint import read_checkpoint
from lesion_exp.job.freeze import read_job
from lesion_exp.job.keep_network import Content, has_model, keep_model
from lesion_exp.job.model_card import completed
from lesion_exp.job.moved import moved
from lesion_exp.job.restore import Restored, restore
from lesion_exp.predict.tested import kept_calibrators
from lesion_exp.tracking.find import Run, download_artifact, fetch_artifact
from lesion_exp.tracking.written import Written

log = logging.getLogger(__name__)


def ensure_model(run: Run, paths: Mapping[str, Any]) -> None:
    """Adds the MLflow model to `run` where it has none, or not all of one; `paths` are those of this machine.

    Raises:
        ConfigError: a run that has not finished, or has no network.
        DataError: its checkpoint is gone.
    """
    if not has_model(run):
        restored, content = best_network(run, paths)
        log.info("the run has no whole model yet: it is added to it")
        keep_model(Written(run.store, run.run_id, run.artifact_uri), restored.classifier.backbone, content)


def best_network(run: Run, paths: Mapping[str, Any]) -> tuple[Restored, Content]:
    """The best network of `run`, and its checkpoint with a card that is complete, whatever version wrote it.

    Raises:
        ConfigError, DataError: as `ensure_model`.
    """
    if run.status != "FINISHED":
        raise ConfigError(
            f"expected a run that has finished, got {run.run_id} ({run.status}); lesion-exp resume run={run.run_id} "
            f"goes on with one that stopped"
        )
    config = _config(run, paths)
    checkpoint = download_artifact(run, CHECKPOINT)
    content = read_checkpoint(checkpoint)
    content["lesion_exp"] = completed(content["lesion_exp"], config, run.run_id, kept_calibrators(run))
    return restore(config, checkpoint), content


def _config(run: Run, paths: Mapping[str, Any]) -> Mapping[str, Any]:
    if fetch_artifact(run.store, run.run_id, run.artifact_uri, JOB_FILE) is None:
        return Member(run, None, {}).job_config("a model")
    job = moved(read_job(download_artifact(run, JOB_FILE)), run.store.uri, paths, {})
    evaluation = {**job.config["evaluation"], "tta": own_tta(run)}
    return Member(run, job.config, evaluation).job_config("a model")
