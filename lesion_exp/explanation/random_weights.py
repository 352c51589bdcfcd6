"""A sanity check of an explainer: its maps should change if the weights of the network are random."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from lesion_exp.explanation.explainer import Explainer
from lesion_exp.explanation.network import ExplainedNetwork


def random_weights_correlation(
    explainer: Explainer, network: ExplainedNetwork, images: Tensor, targets: Tensor, seed: int = 0
) -> float:
    """Returns the mean rank correlation between the maps of the trained network and those with random weights.

    A value near 1 means that the maps show the image and not what the network has learnt. The result is NaN if no image
    has a map that varies in both cases. Source: Adebayo et al. 2018, arXiv:1810.03292.

    Args:
        explainer: the explainer to check.
        network: the trained network.
        images: float32 (N, C, H, W), normalised.
        targets: int64 (N,), classes.
        seed: seed of the random weights.
    """
    trained = explainer(network, images, targets)
    with random_weights(network, images, seed):
        untrained = explainer(network, images, targets)
    found = [rank_correlation(one, other) for one, other in zip(trained, untrained, strict=True)]
    known = [value for value in found if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


@contextmanager
def random_weights(network: nn.Module, images: Tensor, seed: int) -> Iterator[None]:
    """Replaces the weights inside the block by draws of a normal distribution with the mean and the standard deviation
    of each tensor.

    The statistics of batch normalisation are recomputed from `images`, float32 (N, C, H, W), because those of the
    trained weights do not fit.
    """
    state = {name: values.clone() for name, values in network.state_dict().items()}
    norms = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in norms]
    try:
        with torch.no_grad():
            _draw(network, seed)
            for layer in norms:
                layer.reset_running_stats()
                layer.momentum = None  # the mean over all batches, here one
                layer.train(len(images) > 1)  # one image has no variance
            network(images)
            for layer in norms:
                layer.eval()
        yield
    finally:
        network.load_state_dict(state)
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()


def _draw(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        values = parameter.float()
        drawn = torch.randn(parameter.shape, generator=generator).to(parameter.device)
        parameter.copy_(values.mean() + drawn * values.std(correction=0))


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Returns Spearman's correlation of two maps, (H, W), over their pixels; NaN if one of them is constant."""
    ranks = [rankdata(values.detach().cpu().numpy().ravel()) for values in (one, other)]
    if any(values.std() == 0 for values in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
