"""The runs that are judged."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lesion_exp.config.freeze import job_hash
from lesion_exp.errors import ConfigError
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import Run, runs_where
from lesion_exp.trained_runs.trained_run import TrainedRun, trained_run
from lesion_exp.training.job_tags import job_of
from lesion_exp.verbs.evaluate.request import EvaluationRequest


def make_members(runs: Sequence[Run], request: EvaluationRequest, paths: Mapping[str, Any]) -> list[TrainedRun]:
    """The runs with their jobs, each once; `paths` are those of this machine.

    Raises:
        ConfigError: a run named twice.
    """
    for position, run in enumerate(runs):
        if run.run_id in {other.run_id for other in runs[:position]}:
            raise ConfigError(f"expected different runs, got {run.run_id} ({run.name}) twice; name each once")
    return [_member(run, request, paths) for run in runs]


def _member(run: Run, request: EvaluationRequest, paths: Mapping[str, Any]) -> TrainedRun:
    member = trained_run(run, paths, request.data_root)
    return replace(member, evaluation=request.options_of(member.evaluation))


def fold_runs(run: Run) -> list[Run]:
    """The newest finished run of each fold of the cross-validation that `run` belongs to.

    Raises:
        ConfigError: it belongs to none, or there are folds without a finished run.
    """
    config = job_of(run).config
    if "fold" not in config["split"] or "num_folds" not in config["split"]:
        raise ConfigError(
            f"expected a run of a cross-validation for all its folds, got {run.run_id} ({run.name}), whose split is "
            f"another; train one with split=kfold split.fold=0"
        )
    found: dict[int, Run] = {}
    condition = f"attributes.status = 'FINISHED' and params.`split._target_` = '{config['split']['_target_']}'"
    for other in runs_where(run.store, condition):  # the newest first
        if other.fetch(artifacts.JOB) is None:
            continue
        job = job_of(other)
        if without_fold(job.config, job.files) == without_fold(config, job.files):
            found.setdefault(int(job.config["split"]["fold"]), other)
    missing = sorted(set(range(config["split"]["num_folds"])) - set(found))
    if missing:
        raise ConfigError(
            f"expected a finished run of each of the {config['split']['num_folds']} folds, but there is none of "
            f"{', '.join(map(str, missing))}; train the same job with split.fold={missing[0]}"
        )
    return [found[fold] for fold in sorted(found)]


def without_fold(config: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """What the jobs of all folds of a cross-validation have in common, as a hash."""
    kept = copy.deepcopy(dict(config))
    kept["split"]["fold"] = None
    return job_hash(kept, files)
