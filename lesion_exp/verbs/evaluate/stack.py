"""A stacked ensemble of runs: fitted on their validation part, or on the held-out folds of cross-validations."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp.choices import STACK_COLUMNS, STACKED
from lesion_exp.dataset.missing_values import missing_only_without
from lesion_exp.dataset.table import INTERNAL_NAMES, LEAKS
from lesion_exp.errors import ConfigError, nearest
from lesion_exp.evaluation.comparison import Difference, compared
from lesion_exp.evaluation.ensemble import ensemble, same_rows
from lesion_exp.evaluation.intervals import Unit
from lesion_exp.evaluation.patient_context import groups_of
from lesion_exp.evaluation.predictions import PREFIX, known_rows
from lesion_exp.evaluation.stack_features import CONTEXT, METADATA, PREDICTIONS, StackFeatures
from lesion_exp.evaluation.stacking import FittedStacking, StackOptions, fit_stacking
from lesion_exp.progress import Stage
from lesion_exp.tracking import artifacts
from lesion_exp.trained_runs.trained_run import TrainedRun
from lesion_exp.verbs.evaluate.combined import (
    Combined,
    check_test_part,
    cross_validations,
    num_splits,
    pooled_folds,
    tables_elsewhere,
)
from lesion_exp.verbs.evaluate.request import EvaluationRequest

log = logging.getLogger(__name__)

_FORBIDDEN: Final = INTERNAL_NAMES - {*STACK_COLUMNS, "source"}
"""Columns that this software names and that are no metadata: ids, labels, paths, parts."""


def stacked(members: Sequence[TrainedRun], request: EvaluationRequest) -> Combined:
    """Returns the predictions of a stacked ensemble, and the file with the fitted ensemble.

    Runs with the same split are stacked on their validation part, and evaluated on the test part. All folds of one or
    several cross-validations are stacked on their held-out predictions, each cross-validation as one member; these very
    images are evaluated, each predicted by a model that saw no image of its patient. On another data set the
    predictions of a cross-validation are the mean of its folds.

    Raises:
        ConfigError: the runs have neither the same split nor are they whole cross-validations; a run has no predictions
            of its validation part; or the wanted features do not exist.
        DataError: the runs have different images, classes or labels, or a class is missing.
    """
    validations = cross_validations(members)
    if not validations and num_splits(members) > 1:
        raise ConfigError(
            "expected runs with the same split for ensemble=stacked, or all folds of cross-validations "
            "(run=folds:RUN), got runs with different splits: no images were held out from all of them; use "
            "ensemble=mean"
        )
    if validations:
        check_test_part(request)
        held_out = [pooled_folds(folds) for folds in validations]
    else:
        without = [member for member in members if member.lacks_predictions("val")]
        if without:
            raise ConfigError(
                f"expected predictions of the validation part of each run for ensemble=stacked, which is fitted on "
                f"them, but run {without[0].run_id} ({without[0].run.name}) has none; import those of validation "
                f"images with it, or use ensemble=mean"
            )
        held_out = [member.predictions("val") for member in members]
    held_out = same_rows(held_out)
    options = replace(request.stack, columns=feature_columns(held_out[0], request.stack.columns))
    with Stage(f"fitting a stacked ensemble ({options.stack}) on {len(held_out[0]):,} images"):
        fitted = fit_stacking(held_out, options)
    fitted = replace(fitted, notes=(*fitted.notes, *columns_missing_by_label(held_out[0], fitted.stacking.features)))
    for note in fitted.notes:
        log.warning("%s", note)
    test, tables, has_seen = (fitted.table, held_out, False) if validations else _on_test(members, fitted, request)
    other = None
    if request.dataset is not None:
        found, seen = tables_elsewhere(members, request)
        tables = same_rows(_joined_folds(members, validations, found))
        other, has_seen = fitted.stacking.apply(tables), has_seen or seen
    joined = validations or [[member] for member in members]
    content = {
        **fitted.stacking.to_dict(),
        "predicts": [[run.run_id for run in runs] for runs in joined],
        "tta": [[run.evaluation["tta"] for run in runs] for runs in joined],
        "evaluated_on": "held-out folds" if validations else "the test part",
        "folds": fitted.folds,
        "importance": [asdict(one) for one in fitted.importance],
        "notes": list(fitted.notes),
    }
    validation = None if validations else fitted.table
    return Combined(validation, test, other, has_seen, {artifacts.STACKING: content}, tables=tables, notes=fitted.notes)


def _on_test(
    members: Sequence[TrainedRun], fitted: FittedStacking, request: EvaluationRequest
) -> tuple[pd.DataFrame | None, list[pd.DataFrame], bool]:
    """The predictions of the test part, those of the members, and whether a group is in both parts."""
    if request.part == "val":
        return None, same_rows([member.predictions("val") for member in members]), False
    tables = same_rows([member.predictions("test") for member in members])
    both = pd.concat([fitted.table, tables[0]], ignore_index=True)
    group = groups_of(both)
    crossing = np.intersect1d(group[: len(fitted.table)], group[len(fitted.table) :])
    if len(crossing):
        log.warning(
            "%d patients or lesions are in the validation part, on which the ensemble is fitted, and in the test part; "
            "the result is marked as leaky",
            len(crossing),
        )
    return fitted.stacking.apply(tables), tables, bool(len(crossing))


def _joined_folds(
    members: Sequence[TrainedRun], validations: Sequence[Sequence[TrainedRun]], tables: Sequence[pd.DataFrame]
) -> list[pd.DataFrame]:
    """The mean predictions of the folds of each cross-validation; without any, the predictions of each run."""
    if not validations:
        return list(tables)
    by_run = {member.run_id: table for member, table in zip(members, tables, strict=True)}
    return [ensemble("mean", [by_run[fold.run_id] for fold in folds]) for folds in validations]


def compared_with_members(
    table: pd.DataFrame, members: Sequence[pd.DataFrame], draws: int, seed: int, unit: Unit
) -> dict[str, dict[str, Difference]]:
    """Returns the differences in each metric between a stacked ensemble and its members, and the mean of these if there
    are several, with the intervals and tests of `compare`.

    Args:
        table: predictions of the ensemble.
        members: those of its members, with the same rows in the same order.
        draws: number of bootstrap draws.
        seed: seed of the draws.
        unit: what intervals and tests take together, the images of a lesion or those of a patient.
    """
    others = {f"member {number}": member for number, member in enumerate(members, start=1)}
    if len(members) == 1:
        others = {"the member alone": members[0]}
    else:
        others = {"the mean of the members": ensemble("mean", members), **others}
    tables = [known_rows(one).reset_index(drop=True) for one in (table, *others.values())]
    groups = {STACKED: [0], **{name: [place] for place, name in enumerate(others, start=1)}}
    found = compared(tables, groups, [(STACKED, name) for name in others], draws=draws, seed=seed, unit=unit)
    return {pair.second: dict(pair.differences) for pair in found.pairs}


def feature_columns(table: pd.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns of `table` that `names` names, with `*` for any text, in the order of the table.

    Ids, labels, predictions and columns that give the label away (`leaks_...`) are no features: patterns leave them
    out.

    Raises:
        ConfigError: a name is none of the other columns.
    """
    allowed = [
        str(column)
        for column in table.columns
        if str(column) not in _FORBIDDEN and not str(column).startswith((LEAKS, PREFIX))
    ]
    found: set[str] = set()
    for name in names:
        hits = {column for column in allowed if fnmatchcase(column, name)}
        if not hits:
            why = "which is an id, a label or a prediction, or gives the label away; " if name in table else ""
            raise ConfigError(
                f"expected stack_columns to name columns of the predictions that may be features, got {name}, "
                f"{why}{nearest(name, allowed)}"
            )
        found |= hits
    return tuple(column for column in allowed if column in found)


def columns_missing_by_label(table: pd.DataFrame, features: StackFeatures) -> list[str]:
    """Returns sentences about columns among `features` whose missing values give the label away.

    These are columns whose values are missing only where the truth value of a `leaks_` column is false.
    """
    notes: list[str] = []
    read = (*features.numbers, *(features.texts if METADATA in features.groups else ()))  # numbers have a context, too
    for leak in (str(column) for column in table.columns if str(column).startswith(LEAKS)):
        if found := missing_only_without(table, read, leak):
            others = ",".join(name for name in read if name not in found)
            kept = {PREDICTIONS} if found.keys() & set(features.numbers) else {PREDICTIONS, CONTEXT}
            groups = [name for name in features.groups if name in kept] or [PREDICTIONS]
            counts = ", ".join(f"{name} in {count:,} of {len(table):,} images" for name, count in found.items())
            remedy = f"stack_columns=[{others}]" if others else f"stack_features=[{','.join(groups)}]"
            notes.append(
                f"values are missing only where {leak} is false ({counts}), so that the ensemble learns from missing "
                f"values what {leak} tells about the label; leave these columns out with {remedy}"
            )
    return notes


def described(options: StackOptions) -> dict[str, Any]:
    """Returns the options with the names that they have on the command line."""
    return {
        "stack": options.stack,
        "stack_features": list(options.features),
        "stack_columns": list(options.columns),
        "stack_balanced": options.balanced,
        "stack_seed": options.seed,
    }
