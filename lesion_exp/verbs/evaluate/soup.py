"""Averages the weights of several runs (a soup) and predicts with the mean network."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lesion_exp.backbone.class_token import CLASS_TOKEN
from lesion_exp.config.own_code import warn_of_other_code
from lesion_exp.data.loaders import PartLoaders
from lesion_exp.errors import ConfigError, first_cases
from lesion_exp.image_classifier import ImageClassifier
from lesion_exp.model.restore import restore
from lesion_exp.tracking import artifacts
from lesion_exp.trained_runs.trained_run import TrainedRun
from lesion_exp.verbs.evaluate.combined import Combined, num_splits
from lesion_exp.verbs.evaluate.request import EvaluationRequest

log = logging.getLogger(__name__)

State = dict[str, Tensor]


def soup(members: Sequence[TrainedRun], request: EvaluationRequest, folder: Path) -> Combined:
    """The predictions of a network with the mean weights of all runs, whose checkpoint is written to `folder`.

    Raises:
        ConfigError: the runs have other splits, inputs or networks, or another data set is asked for.
    """
    if request.dataset is not None:
        raise ConfigError(
            "expected ensemble=soup without dataset=, got a data set: make the soup first, which becomes a run with "
            "its own network, and evaluate that run on the data set"
        )
    if num_splits(members) > 1:
        raise ConfigError(
            "expected runs with the same split for ensemble=soup, got different ones: no image was held out from all "
            "of them; train runs that only differ in seed or learning rate"
        )
    configs = [member.job_config("ensemble=soup") for member in members]
    _check_same_inputs(configs)
    for member, config in zip(members, configs, strict=True):
        warn_of_other_code(member.run, config)
    first = members[0]
    path = folder / "best.ckpt"
    content = mean_checkpoint([member.artifact(artifacts.checkpoint()) for member in members])
    torch.save(content, path)
    network = restore(configs[0], path)
    split = first.data()
    layers = recompute_batch_norm(network.classifier, network.data(split.table, split.loaded.store))
    if layers:
        log.info("statistics of %d batch normalisation layers recomputed on the training part", layers)
    torch.save({**content, "state_dict": network.classifier.state_dict()}, path)
    parts = ["val", *(["test"] if request.part == "test" else [])]
    rows = {part: split.table[split.table["split"] == part] for part in parts}
    found = {part: network.predict(own, split.loaded.store) for part, own in rows.items()}
    return Combined(found["val"], found.get("test"), checkpoint=path)


def mean_checkpoint(paths: Sequence[Path]) -> dict[str, Any]:
    """Returns a checkpoint with the mean weights of the checkpoints at `paths` and the card of the first.

    The mean is useful for runs that started from the same pretrained weights and remained close to each other (Wortsman
    et al. 2022, arXiv:2203.05482). Networks trained from different random weights have no meaningful mean.

    Raises:
        ConfigError: the networks have different layers, features or classes, or remember training images, which have
            no mean.
    """
    contents = [torch.load(path, map_location="cpu", weights_only=True) for path in paths]
    first = contents[0]
    for number, other in enumerate(contents[1:], start=2):
        if other["lesion_exp"]["classes"] != first["lesion_exp"]["classes"]:
            raise ConfigError(
                f"expected networks with the same classes for ensemble=soup, but those of the runs 1 and {number} "
                f"differ; name runs with the same classes"
            )
        _check_same_layers(first["state_dict"], other["state_dict"], number)
        if bool(other["lesion_exp"].get(CLASS_TOKEN)) != bool(first["lesion_exp"].get(CLASS_TOKEN)):
            raise ConfigError(
                f"expected networks with the same features for ensemble=soup, but one of the runs 1 and {number} gives "
                f"its class token and the other, of an earlier version, the mean over the patches; use ensemble=mean"
            )
    if any(name.endswith("head.memory") for name in first["state_dict"]):
        raise ConfigError(
            "expected networks with trained weights for ensemble=soup, got backbone.head=knn, which remembers training "
            "images in the order of its run; use ensemble=mean"
        )
    mean = mean_state([content["state_dict"] for content in contents])
    card = {**first["lesion_exp"], "calibration": {}}  # those of the first network do not fit the mean
    return {"state_dict": mean, "lesion_exp": card}


def mean_state(states: Sequence[State]) -> State:
    """Returns the mean of each tensor; for tensors of whole numbers, such as counters, the first one."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }


def recompute_batch_norm(classifier: ImageClassifier, loaders: PartLoaders) -> int:
    """Recomputes the statistics of batch normalisation layers over the training part without augmentation.

    The mean of the statistics of several networks does not fit the mean of their weights. Layers that `backbone.tune`
    froze kept their statistics in training, and keep them here.

    Returns:
        The number of such layers.
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
        for batch in loaders.evaluation_dataloader("train"):
            if len(batch["index"]) > 1:  # one image has no variance
                classifier({name: values.to(device) for name, values in batch.items()})
    classifier.cpu().eval()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return len(layers)


def _check_same_inputs(configs: Sequence[Mapping[str, Any]]) -> None:
    for key in ("view", "mask"):
        values = dict.fromkeys(str(config["dataset"][key]) for config in configs)
        if len(values) > 1:
            raise ConfigError(
                f"expected runs with the same dataset.{key} for ensemble=soup, got {', '.join(values)}: the mean "
                f"network would get the images of the first run; use ensemble=mean, which averages their "
                f"probabilities"
            )


def _check_same_layers(first: State, other: State, number: int) -> None:
    names = sorted(first.keys() | other.keys())
    differing = [name for name in names if _shape(first, name) != _shape(other, name)]
    if differing:
        cases = [f"{name}: {_shape(first, name)} and {_shape(other, name)}" for name in differing]
        raise ConfigError(
            f"expected networks with the same layers for ensemble=soup, but those of the runs 1 and {number} differ:\n"
            f"{first_cases(cases)}\nuse ensemble=mean, which averages their probabilities"
        )


def _shape(state: State, name: str) -> str:
    return str(tuple(state[name].shape)) if name in state else "none"
