"""The runs that are judged."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lesion_exp.errors import ConfigError
from lesion_exp.evaluate.request import Request
from lesion_exp.job.complete import check_complete
from lesion_exp.job.freeze import job_hash, read_job
from lesion_exp.job.moved import moved
from lesion_exp.tracking.find import Run, download_artifact, fetch_artifact, runs_where

JOB_FILE: Final = "config/job.yaml"
CHECKPOINT: Final = "checkpoints/best.ckpt"


@dataclass(frozen=True)
class Member:
    """A run with its job on this machine."""

    run: Run
    config: Mapping[str, Any] | None
    """The job's config; None for a run that trained nothing itself, such as an ensemble."""
    evaluation: Mapping[str, Any]
    """How it is to be judged: the node `evaluation`."""

    @property
    def predicts_anew(self) -> bool:
        """Whether another test-time augmentation is asked for than that of the predictions that the run keeps."""
        return bool(self.evaluation["tta"] != own_tta(self.run))

    @property
    def leaky(self) -> bool:
        """Whether the run is marked as leaky."""
        return self.run.tags.get("leaky") == "true"

    def job_config(self, wanted_for: str) -> Mapping[str, Any]:
        """The job's config, with the places of this machine and the evaluation asked for.

        Raises:
            ConfigError: the run trained nothing, or its job was frozen by another version.
        """
        if self.config is None:
            remedy = "keeps predictions only; name the runs that it was made of, run=[A,B]"
            if sweep := self.run.tags.get("sweep_id"):
                remedy = f"trained nothing itself; name one of its cells, which lesion-exp sweep status {sweep} lists"
            raise ConfigError(
                f"expected a run that was trained, for {wanted_for}, got {self.run.run_id} ({self.run.name}), which "
                f"{remedy}"
            )
        config = {**self.config, "evaluation": dict(self.evaluation)}
        check_complete(config)
        return config


def make_members(runs: Sequence[Run], request: Request, paths: Mapping[str, Any]) -> list[Member]:
    """The runs with their jobs, each once; `paths` are those of this machine.

    Raises:
        ConfigError: a run named twice.
    """
    for position, run in enumerate(runs):
        if run.run_id in {other.run_id for other in runs[:position]}:
            raise ConfigError(f"expected different runs, got {run.run_id} ({run.name}) twice; name each once")
    return [_member(run, request, paths) for run in runs]


def _member(run: Run, request: Request, paths: Mapping[str, Any]) -> Member:
    if fetch_artifact(run.store, run.run_id, run.artifact_uri, JOB_FILE) is None:
        return Member(run, None, request.options_of({"tta": own_tta(run)}))
    places = {} if request.data_root is None else {"dataset.root": request.data_root}
    job = moved(read_job(download_artifact(run, JOB_FILE)), run.store.uri, paths, places)
    return Member(run, job.config, request.options_of({**job.config["evaluation"], "tta": own_tta(run)}))


def fold_runs(run: Run) -> list[Run]:
    """The newest finished run of each fold of the cross-validation that `run` belongs to.

    Raises:
        ConfigError: it belongs to none, or there are folds without a finished run.
    """
    config = read_job(download_artifact(run, JOB_FILE)).config
    if "fold" not in config["split"] or "num_folds" not in config["split"]:
        raise ConfigError(
            f"expected a run of a cross-validation for all its folds, got {run.run_id} ({run.name}), whose split is "
            f"another; train one with split=kfold split.fold=0"
        )
    found: dict[int, Run] = {}
    condition = f"attributes.status = 'FINISHED' and params.`split._target_` = '{config['split']['_target_']}'"
    for other in runs_where(run.store, condition):  # the newest first
        if fetch_artifact(other.store, other.run_id, other.artifact_uri, JOB_FILE) is None:
            continue
        job = read_job(download_artifact(other, JOB_FILE))
        if without_fold(job.config, job.files) == without_fold(config, job.files):
            found.setdefault(int(job.config["split"]["fold"]), other)
    missing = sorted(set(range(config["split"]["num_folds"])) - set(found))
    if missing:
        raise ConfigError(
            f"expected a finished run of each of the {config['split']['num_folds']} folds, but there is none of "
            f"{', '.join(map(str, missing))}; train the same job with split.fold={missing[0]}"
        )
    return [found[fold] for fold in sorted(found)]


def own_tta(run: Run) -> str:
    """The test-time augmentation of the predictions that the run keeps."""
    return run.params.get("evaluation.tta", "none")


def without_fold(config: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """What the jobs of all folds of a cross-validation have in common, as a hash."""
    kept = copy.deepcopy(dict(config))
    kept["split"]["fold"] = None
    return job_hash(kept, files)
