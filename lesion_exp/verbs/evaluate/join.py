"""Several runs as one: their predictions joined, their folds put together, or their weights averaged."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lesion_exp.choices import POOLED, SOUP
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.ensemble import Stacking, aligned, ensemble
from lesion_exp.evaluation.predictions import classes_of
from lesion_exp.tracking import artifacts
from lesion_exp.trained_runs.trained_run import TrainedRun
from lesion_exp.verbs.evaluate.predict import other_predictions
from lesion_exp.verbs.evaluate.request import EvaluationRequest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Joined:
    """What several runs say as one."""

    validation: pd.DataFrame | None
    """On the validation part; None where no image was held out from all of them."""
    test: pd.DataFrame | None
    other: pd.DataFrame | None = None
    """On another data set."""
    has_seen: bool = False
    """Whether the other data set holds images that one of the runs was made with."""
    files: Mapping[str, Any] = field(default_factory=dict)
    """Plain content of files to keep."""
    checkpoint: Path | None = None
    """The averaged network."""


def join(members: Sequence[TrainedRun], way: str, request: EvaluationRequest, folder: Path) -> Joined:
    """The runs as one by `way`: mean, rank, stacked, soup or pooled; files that it needs are written to `folder`.

    Raises:
        ConfigError: fewer than two runs, or runs that do not go together.
        DataError: they are of different images, classes or labels.
    """
    if len(members) < 2:
        raise ConfigError(f"expected at least two runs for an ensemble, got {len(members)}; name them run=[A,B]")
    if way == POOLED:
        return _pooled(members, request)
    if way == SOUP:
        return _soup(members, request, folder)
    if are_folds(members):
        return _folds_elsewhere(members, way, request)
    validation = None if _splits(members) > 1 else [member.predictions("val") for member in members]
    if validation is None and way == "stacked":
        raise ConfigError(
            "expected runs with the same split for ensemble=stacked, got different ones: it is fitted on a validation "
            "part that all have in common; use ensemble=mean"
        )
    files = {}
    if way == "stacked" and validation is not None:
        files["ensemble/stacking.json"] = Stacking.fit(aligned(validation)).to_dict()
    test = [member.predictions("test") for member in members] if request.part == "test" else None
    other, has_seen = (None, False) if request.dataset is None else _elsewhere(members, request)
    on_validation, on_test, on_other = (
        None if tables is None else ensemble(way, tables, validation) for tables in (validation, test, other)
    )
    return Joined(on_validation, on_test, on_other, has_seen, files)


def _pooled(members: Sequence[TrainedRun], request: EvaluationRequest) -> Joined:
    """Each image as the one fold predicts it that has not seen it."""
    if request.dataset is not None:
        raise ConfigError(
            "expected ensemble=mean for folds on another data set, got pooled: there every fold can judge every image"
        )
    if not are_folds(members):
        raise ConfigError("expected the folds of a cross-validation for ensemble=pooled, got runs with the same test "
                          "part; use ensemble=mean")  # fmt: skip
    tables = [member.predictions("test") for member in members]
    if len({classes_of(table) for table in tables}) > 1:
        raise DataError("expected folds with the same classes, got different ones; name folds of one data set")
    pooled = pd.concat(tables, ignore_index=True)
    twice = pooled["row_id"][pooled["row_id"].duplicated()]
    if len(twice):
        raise DataError(
            f"expected folds that share no test image, but {len(twice):,} images are tested twice; name runs of one "
            f"cross-validation, or folds:RUN"
        )
    return Joined(None, pooled)


def _folds_elsewhere(members: Sequence[TrainedRun], way: str, request: EvaluationRequest) -> Joined:
    """All folds on the images of another data set, which none of them knows."""
    if request.dataset is None:
        raise ConfigError(
            f"expected ensemble=pooled for the folds of a cross-validation, got {way}: each fold was trained on the "
            f"other folds' test images, so only its own are new to it; ensemble={way} judges them on another data set "
            f"(dataset=NAME)"
        )
    if way == "stacked":
        raise ConfigError(
            "expected ensemble=mean or rank for the folds of a cross-validation, got stacked: no image was held out "
            "from all of them, on which a stacking could be fitted"
        )
    tables, has_seen = _elsewhere(members, request)
    return Joined(None, None, ensemble(way, tables), has_seen)


def _soup(members: Sequence[TrainedRun], request: EvaluationRequest, folder: Path) -> Joined:
    if request.dataset is not None:
        raise ConfigError(
            "expected ensemble=soup without dataset=: it makes a run with a network of its own; then evaluate run=THAT "
            "on the other data set"
        )
    if _splits(members) > 1:
        raise ConfigError(
            "expected runs with the same split for ensemble=soup, got different ones: no image was held out from all "
            "of them; train runs that differ in seed or learning rate only"
        )
    import torch

    from lesion_exp.model.restore import restore
    from lesion_exp.verbs.evaluate.soup import mean_checkpoint, renew_batch_norm

    first = members[0]
    path = folder / "best.ckpt"
    content = mean_checkpoint([member.artifact(artifacts.checkpoint()) for member in members])
    torch.save(content, path)
    network = restore(first.job_config("ensemble=soup"), path)
    split = first.data()
    layers = renew_batch_norm(network.classifier, network.data(split.table, split.loaded.store))
    if layers:
        log.info("statistics of %d batch-norm layers measured anew on the training part", layers)
    torch.save({**content, "state_dict": network.classifier.state_dict()}, path)
    parts = ["val", *(["test"] if request.part == "test" else [])]
    rows = {part: split.table[split.table["split"] == part] for part in parts}
    found = {part: network.predict(own, split.loaded.store) for part, own in rows.items()}
    return Joined(found["val"], found.get("test"), checkpoint=path)


def _elsewhere(members: Sequence[TrainedRun], request: EvaluationRequest) -> tuple[list[pd.DataFrame], bool]:
    found = [other_predictions(member, request) for member in members]
    return [table for table, _ in found], any(seen for _, seen in found)


def are_folds(members: Sequence[TrainedRun]) -> bool:
    """Whether one run was trained on what another is tested on."""
    folds = [member.config is not None and "fold" in member.config["split"] for member in members]
    return any(folds) and _splits(members) > 1


def _splits(members: Sequence[TrainedRun]) -> int:
    """How many different splits the runs have."""
    return len({member.run.tags.get("split_hash") for member in members})
