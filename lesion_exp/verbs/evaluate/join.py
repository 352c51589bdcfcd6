"""Several runs as one: their predictions joined, their folds put together, or their weights averaged."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from lesion_exp.choices import POOLED, SOUP
from lesion_exp.data.datamodule import LesionDataModule
from lesion_exp.errors import ConfigError, DataError, first_cases
from lesion_exp.evaluation.ensemble import Stacking, ensemble, same_rows
from lesion_exp.evaluation.predictions import classes_of
from lesion_exp.task import LesionClassifier
from lesion_exp.tracking import artifacts
from lesion_exp.trained_runs.trained_run import TrainedRun
from lesion_exp.verbs.evaluate.member import other_predictions
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
        files["ensemble/stacking.json"] = Stacking.fit(same_rows(validation)).to_dict()
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


State = dict[str, Tensor]


def mean_checkpoint(paths: Sequence[Path]) -> dict[str, Any]:
    """A checkpoint with the mean weights of the checkpoints at `paths`, and the card of the first.

    It is worth something where the runs started from the same pretrained weights and went not far from each other
    (Wortsman et al. 2022, arXiv:2203.05482); networks trained from different random weights have no meaningful mean.

    Raises:
        ConfigError: the networks have different layers or classes.
    """
    contents = [torch.load(path, map_location="cpu", weights_only=True) for path in paths]
    first = contents[0]
    for number, other in enumerate(contents[1:], start=2):
        if other["lesion_exp"]["classes"] != first["lesion_exp"]["classes"]:
            raise ConfigError(
                f"expected networks with the same classes for ensemble=soup, but those of the first and the {number}. "
                f"run differ; use ensemble=mean with runs on the same data"
            )
        _check_same_layers(first["state_dict"], other["state_dict"], number)
    mean = mean_state([content["state_dict"] for content in contents])
    card = {**first["lesion_exp"], "calibration": {}}  # fitted on what another network says
    return {"state_dict": mean, "lesion_exp": card}


def mean_state(states: Sequence[State]) -> State:
    """The mean of each tensor; of whole numbers, such as counters, the first."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }


def renew_batch_norm(classifier: LesionClassifier, datamodule: LesionDataModule) -> int:
    """Measures means and variances of the batch-norm layers anew, over all images of the training part as evaluation
    shows them; how many layers that were.

    Statistics belong to the weights that they were measured with: their mean is that of no network. Layers that
    `backbone.tune` froze kept theirs in training, and keep them here.
    """
    classifier.train()
    norms = [layer for layer in classifier.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    layers = [layer for layer in norms if layer.training]
    classifier.eval()
    if not layers:
        return 0
    momenta = [layer.momentum for layer in layers]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier.to(device).eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
        layer.train()
    with torch.no_grad():
        for batch in datamodule.evaluation_dataloader("train"):
            if len(batch["index"]) > 1:  # one image has no variance
                classifier({name: values.to(device) for name, values in batch.items()})
    classifier.cpu().eval()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return len(layers)


def _check_same_layers(first: State, other: State, number: int) -> None:
    names = sorted(first.keys() | other.keys())
    differing = [name for name in names if _shape(first, name) != _shape(other, name)]
    if differing:
        cases = [f"{name}: {_shape(first, name)} and {_shape(other, name)}" for name in differing]
        raise ConfigError(
            f"expected networks of the same layers for ensemble=soup, but those of the first and the {number}. run "
            f"differ:\n{first_cases(cases)}\nuse ensemble=mean, which averages their probabilities"
        )


def _shape(state: State, name: str) -> str:
    return str(tuple(state[name].shape)) if name in state else "none"
