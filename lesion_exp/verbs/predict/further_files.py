"""Checks a prediction before torch is imported: its run, its images, its output, and the files beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError
from lesion_exp.tracking.stored_run import Run
from lesion_exp.trained_runs.trained_run import check_kept
from lesion_exp.verbs.predict.images import check_source
from lesion_exp.verbs.predict.output_files import (
    check_is_new,
    facts_path,
    folder_of,
    output_of,
    submission_path,
    to_label_file,
)
from lesion_exp.verbs.predict.plan import DONE_FILE, PLAN_FILE
from lesion_exp.verbs.predict.predicting_run import check_predicts
from lesion_exp.verbs.predict.request import PredictionRequest

_TO_LABEL: Final = "the images to label next"


def check_first(run: Run, request: PredictionRequest, project: Project) -> None:
    """Checks what can be known of `request` without the network of `run`; the prediction itself checks all of it again.

    Raises:
        ConfigError: `run` cannot predict, or a file to write exists already.
        DataError: there is nothing to predict, or `run` has no such calibration.
    """
    check_predicts(run, request.checkpoint, project)
    check_further_files(request)
    output = output_of(request)
    if not folder_of(output).is_dir():  # else the prediction goes on where it was stopped
        check_is_new(output, force=request.force)
    check_kept(run, request.calibration)
    if request.source is not None:
        check_source(request.source, request.columns)


def check_further_files(request: PredictionRequest) -> None:
    """Checks the files of pseudo-labels, of features, of the submission and of images to label that `request` asks for.

    Raises:
        ConfigError: one exists already, and this prediction has not written it before it was stopped; or two files of
            the request are the same.
    """
    output = output_of(request)
    taken = {output: "output=", facts_path(output): "the facts about output="}
    if request.rank is not None:
        taken[to_label_file(output)] = _TO_LABEL
        _refuse_existing(to_label_file(output), _TO_LABEL, "another output=", request)
    for key, path in _chosen(request, output).items():
        if path in taken:
            raise ConfigError(
                f"expected another file than {taken[path]} for {key}, got {path} for both; name another one, or "
                f"another output="
            )
        taken[path] = key
        _refuse_existing(path, key, "another one", request)


def _refuse_existing(path: Path, what: str, other: str, request: PredictionRequest) -> None:
    """Checks that a file does not exist, or that this prediction has written it before it was stopped.

    Raises:
        ConfigError: it exists, and may not be replaced.
    """
    if path.exists() and not request.force and not _is_of_stopped(path, output_of(request)):
        raise ConfigError(
            f"expected a new file for {what}, but {path} exists; name {other}, or use force=true to replace it"
        )


def _chosen(request: PredictionRequest, output: Path) -> dict[str, Path]:
    given = {"pseudo_labels": request.pseudo_labels, "output_features": request.features}
    found = {key: path.expanduser().absolute() for key, path in given.items() if path is not None}
    return found if request.challenge is None else {**found, "format": submission_path(output, request.challenge)}


def _is_of_stopped(path: Path, output: Path) -> bool:
    """Whether a prediction into `output` that was stopped wrote `path`: after its plans, whose time is its begin."""
    folder = folder_of(output)
    plans = [*folder.glob(PLAN_FILE), *folder.glob(DONE_FILE), *folder.glob(f"*/{PLAN_FILE}")]
    return bool(plans) and all(path.stat().st_mtime_ns >= plan.stat().st_mtime_ns for plan in plans)
