"""The runs that are judged."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from lesion_exp.config.freeze import job_hash
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError, LeakageError, UserError, first_cases
from lesion_exp.split.manifest import image_keys
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import Run, download_artifact, runs_where
from lesion_exp.trained_runs.trained_run import TrainedRun, trained_run
from lesion_exp.training.data import load_data, present_fingerprint
from lesion_exp.training.tracked import job_of
from lesion_exp.verbs.evaluate.request import SHARED_KEYS, EvaluationRequest

log = logging.getLogger(__name__)


def make_members(runs: Sequence[Run], request: EvaluationRequest, project: Project) -> list[TrainedRun]:
    """The runs with their jobs, each once; `project` is that of this machine.

    Raises:
        ConfigError: a run named twice.
    """
    for position, run in enumerate(runs):
        if run.run_id in {other.run_id for other in runs[:position]}:
            raise ConfigError(f"expected different runs, got {run.run_id} ({run.name}) twice; name each once")
    return [_member(run, request, project) for run in runs]


def _member(run: Run, request: EvaluationRequest, project: Project) -> TrainedRun:
    member = trained_run(run, project, request.data_root)
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


def say_changes(run: Run, config: Mapping[str, Any]) -> None:
    """Warns where the data set is no longer what the kept predictions of `run` were made on, as far as it can be read
    at once.
    """
    try:
        data = present_fingerprint(config)
    except UserError as error:
        log.info("the data of run %s are not compared with those of today: %s", run.run_id, str(error).splitlines()[0])
        return
    changed = [] if data is None else data.differences(run.tags)
    if changed:
        log.warning(
            "the data set differs from the one that run %s was made on, in: %s. The predictions that it keeps are "
            "judged by what they were made on; lesion-exp reproduce run=%s trains on the data of today",
            run.run_id,
            "; ".join(changed),
            run.run_id,
        )


def other_predictions(member: TrainedRun, request: EvaluationRequest) -> tuple[pd.DataFrame, bool]:
    """The predictions on the whole of another data set, and whether it holds images that the run was made with.

    Raises:
        LeakageError: it does, and that is not allowed.
        DataError: labels that the network does not know.
    """
    assert request.dataset is not None, "there is another data set"
    config = member.job_config("predictions on another data set")
    node = {**request.dataset, **{key: config["dataset"][key] for key in SHARED_KEYS}}
    loaded = load_data({**config, "dataset": node})
    seen = seen_images(member.run, loaded.table)
    if seen and not request.allow_leakage:
        raise LeakageError(
            f"expected a data set that run {member.run.run_id} has not seen, but {len(seen):,} of its "
            f"{len(loaded.table):,} images are in the run's training or validation part:\n{first_cases(seen)}\n"
            f"leave them out with dataset.filter, or judge all the same with split.allow_leakage=true (the result is "
            f"then marked leaky)"
        )
    return member.network().predict(loaded.table, loaded.store), bool(seen)


def seen_images(run: Run, table: pd.DataFrame) -> list[str]:
    """The ids of the images of `table` that the run trained on or was chosen by: those with the same content, and
    those with the same id and perceptual hash, which were stored once more."""
    manifest = pd.read_parquet(download_artifact(run, artifacts.MANIFEST))
    known = manifest[manifest["split"] != "test"]
    if "content_key" in known:
        keys = image_keys(table, run.tags["split_hash"])
        again = keys["content_key"].isin(known["content_key"]) | keys["picture_key"].isin(known["picture_key"])
    else:  # a run of a version that kept the hashes themselves
        known_pairs = pd.MultiIndex.from_frame(known[["image_id", "phash"]].astype(str))
        same_picture = pd.MultiIndex.from_frame(table[["image_id", "phash"]].astype(str)).isin(known_pairs)
        again = table["sha256"].isin(known["sha256"]) | same_picture
    return table.loc[again, "image_id"].astype(str).tolist()
