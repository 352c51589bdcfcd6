"""A soup: one network whose weights are the mean of those of several."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lesion_exp.data.datamodule import LesionDataModule
from lesion_exp.errors import ConfigError, first_cases
from lesion_exp.task import LesionClassifier

log = logging.getLogger(__name__)

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

    Statistics belong to the weights that they were measured with: their mean is that of no network.
    """
    layers = [layer for layer in classifier.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
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
