"""The predictions of several runs combined into one, and what all ways to combine them need to know of the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.predictions import classes_of
from lesion_exp.trained_runs.trained_run import TrainedRun
from lesion_exp.verbs.evaluate.evaluated_runs import hash_without_fold, predictions_elsewhere
from lesion_exp.verbs.evaluate.request import EvaluationRequest


@dataclass(frozen=True)
class Combined:
    """The predictions of several runs combined into one."""

    validation: pd.DataFrame | None
    """Predictions of the validation part; None if no image was held out from all runs."""
    test: pd.DataFrame | None
    """Predictions of the test part; None if it is not evaluated."""
    other: pd.DataFrame | None = None
    """Predictions of another data set."""
    has_seen: bool = False
    """Whether evaluated images were seen by a run in training or validation, or by a model that combines the runs."""
    files: Mapping[str, Any] = field(default_factory=dict)
    """The content of further JSON files to store, by path."""
    checkpoint: Path | None = None
    """The averaged network of a soup."""
    tables: Sequence[pd.DataFrame] = ()
    """For a stacked ensemble, the predictions of each member on the evaluated images."""
    notes: Sequence[str] = ()
    """Sentences about what could not be done."""


def are_folds(members: Sequence[TrainedRun]) -> bool:
    """Returns whether the runs are folds of a cross-validation, each trained on test images of the others."""
    return any(_is_fold(member) for member in members) and num_splits(members) > 1


def _is_fold(member: TrainedRun) -> bool:
    return member.config is not None and "fold" in member.config["split"]


def num_splits(members: Sequence[TrainedRun]) -> int:
    """Returns the number of different splits."""
    return len({member.run.tags.get("split_hash") for member in members})


def cross_validations(members: Sequence[TrainedRun]) -> list[list[TrainedRun]]:
    """Returns the folds of each cross-validation among the runs, in the order of the first; none if they are no folds.

    Raises:
        ConfigError: a run is no fold, or a cross-validation is not there as a whole.
    """
    if not are_folds(members):
        return []
    strangers = [member.run_id for member in members if not _is_fold(member)]
    if strangers:
        raise ConfigError(
            f"expected folds of cross-validations, or runs with one split, got both: {strangers[0]} is no fold; leave "
            f"it out"
        )
    found: dict[str, list[TrainedRun]] = {}
    for member in members:
        job = member.frozen_job("a stacked ensemble of folds")
        found.setdefault(hash_without_fold(job.config, job.files), []).append(member)
    for folds in found.values():
        _check_whole(folds)
    return list(found.values())


def _check_whole(members: Sequence[TrainedRun]) -> None:
    split = members[0].job_config("its folds")["split"]
    folds = sorted(int(member.job_config("its folds")["split"]["fold"]) for member in members)
    wanted = list(range(int(split["num_folds"]))) if "num_folds" in split else folds
    if folds != wanted:
        lacking, twice = sorted(set(wanted) - set(folds)), sorted({fold for fold in folds if folds.count(fold) > 1})
        what = [f"{words} {', '.join(map(str, some))}" for words, some in (("no fold", lacking), ("twice fold", twice))
                if some]  # fmt: skip
        raise ConfigError(
            f"expected each of the {len(wanted)} folds of a cross-validation once, so that every image is predicted by "
            f"a network that was not trained on it, got {' and '.join(what)} of {members[0].run.name}; name one of its "
            f"runs, run=folds:{members[0].run_id[:8]}"
        )


def check_test_part(request: EvaluationRequest) -> None:
    """Checks that folds are not to be evaluated on their validation parts, which differ.

    Raises:
        ConfigError: they are.
    """
    if request.part == "val" and request.dataset is None:
        raise ConfigError(
            "expected split.part=test for the folds of a cross-validation, got val: the folds have different "
            "validation parts; leave split.part out"
        )


def pooled_folds(folds: Sequence[TrainedRun]) -> pd.DataFrame:
    """Returns the predictions of each image by the fold that was not trained on it.

    Raises:
        DataError: the folds have different classes, or test an image twice.
    """
    tables = [fold.predictions("test") for fold in folds]
    if len({classes_of(table) for table in tables}) > 1:
        raise DataError("expected folds with the same classes, got different ones; name folds of one data set")
    pooled = pd.concat(tables, ignore_index=True)
    twice = pooled["row_id"][pooled["row_id"].duplicated()]
    if len(twice):
        raise DataError(
            f"expected folds that share no test image, but {len(twice):,} images are tested twice; name runs of one "
            f"cross-validation, or folds:RUN"
        )
    return pooled


def tables_elsewhere(members: Sequence[TrainedRun], request: EvaluationRequest) -> tuple[list[pd.DataFrame], bool]:
    """Returns the predictions of each run on another data set, and whether that has images which a run has seen."""
    found = [predictions_elsewhere(member, request) for member in members]
    return [table for table, _ in found], any(seen for _, seen in found)
