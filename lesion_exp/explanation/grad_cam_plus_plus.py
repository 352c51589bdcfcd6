"""Grad-CAM++: as Grad-CAM, but each place of a map has a say of its own in the map's weight."""

from __future__ import annotations

import torch
from torch import Tensor

from lesion_exp.explanation.explainer import Explainer
from lesion_exp.explanation.network import ExplainedNetwork


class GradCamPlusPlus(Explainer):
    """relu(sum_k w_k A_k) with w_k = sum_ij a_kij relu(g_kij), a = g^2 / (2 g^2 + sum_ij A_kij g^3), g the gradient.

    Places that raise the logit count, however small they are, so that several spots are all shown. Source:
    Chattopadhyay et al. 2018, arXiv:1710.11063; the factor exp(logit) is the same all over an image and left out.

    Args:
        layer: dotted name of the module, inside the body's network, whose output is the map; None is the last map.
    """

    def __init__(self, layer: str | None = None) -> None:
        self.layer = layer

    @property
    def passes(self) -> int:
        """A forward pass and a backward pass."""
        return 3

    def attribute(self, network: ExplainedNetwork, images: Tensor, targets: Tensor) -> Tensor:
        """The weighted sum of the maps, float32 (N, h, w), in the maps' own size."""
        maps, gradients = network.last_maps(images, targets, self.layer)
        squares = gradients.square()
        below = 2 * squares + maps.sum(dim=(2, 3), keepdim=True) * squares * gradients
        alphas = torch.where(below != 0, squares / torch.where(below != 0, below, 1.0), 0.0)
        weights = (alphas * gradients.clamp(min=0)).sum(dim=(2, 3), keepdim=True)
        return (weights * maps).sum(dim=1)
