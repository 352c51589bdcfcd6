"""Combines several runs into one: by an ensemble of predictions, by pooled folds, or by averaged weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lesion_exp.choices import POOLED, SOUP, STACKED
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.ensemble import ensemble
from lesion_exp.trained_runs.trained_run import TrainedRun
from lesion_exp.verbs.evaluate.combined import (
    Combined,
    are_folds,
    check_test_part,
    num_splits,
    pooled_folds,
    tables_elsewhere,
)
from lesion_exp.verbs.evaluate.request import EvaluationRequest
from lesion_exp.verbs.evaluate.stack import stacked


def combine(members: Sequence[TrainedRun], method: str, request: EvaluationRequest, folder: Path) -> Combined:
    """Combines the runs by `method`: mean, rank, stacked, soup or pooled. The checkpoint of a soup is written to
    `folder`.

    Raises:
        ConfigError: there are fewer than two runs, or they cannot be combined by this method.
        DataError: the runs have different images, classes or labels.
    """
    if method == STACKED:
        return stacked(members, request)
    if len(members) < 2:
        raise ConfigError(f"expected at least two runs for an ensemble, got {len(members)}; name them run=[A,B]")
    if method == POOLED:
        return _pooled(members, request)
    if method == SOUP:
        from lesion_exp.verbs.evaluate.soup import soup  # the only way that needs torch

        return soup(members, request, folder)
    if are_folds(members):
        return _folds_elsewhere(members, method, request)
    held_out = num_splits(members) == 1 and not any(member.lacks_predictions("val") for member in members)
    validation = [member.predictions("val") for member in members] if held_out else None
    test = [member.predictions("test") for member in members] if request.part == "test" else None
    other, has_seen = (None, False) if request.dataset is None else tables_elsewhere(members, request)
    on_validation, on_test, on_other = (
        None if tables is None else ensemble(method, tables) for tables in (validation, test, other)
    )
    return Combined(on_validation, on_test, on_other, has_seen)


def _pooled(members: Sequence[TrainedRun], request: EvaluationRequest) -> Combined:
    """The prediction of each image by the fold that was not trained on it."""
    if request.dataset is not None:
        raise ConfigError(
            "expected ensemble=mean for folds on another data set, got pooled: every fold predicts all images there"
        )
    if not are_folds(members):
        raise ConfigError("expected the folds of a cross-validation for ensemble=pooled, got runs with the same test "
                          "part; use ensemble=mean")  # fmt: skip
    check_test_part(request)
    return Combined(None, pooled_folds(members))


def _folds_elsewhere(members: Sequence[TrainedRun], method: str, request: EvaluationRequest) -> Combined:
    """The ensemble of all folds on another data set."""
    if request.dataset is None:
        raise ConfigError(
            f"expected ensemble=pooled for the folds of a cross-validation, got {method}: each fold was trained on the "
            f"test images of the other folds; ensemble={method} needs another data set (dataset=NAME)"
        )
    tables, has_seen = tables_elsewhere(members, request)
    return Combined(None, None, ensemble(method, tables), has_seen)
