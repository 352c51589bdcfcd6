"""Grad-CAM: the last feature maps, weighted by how much the class's logit rises with each."""

from __future__ import annotations

from torch import Tensor

from lesion_exp.explanation.explainer import Explainer
from lesion_exp.explanation.network import ExplainedNetwork


class GradCam(Explainer):
    """relu(sum_k w_k A_k), where w_k is the mean over the map A_k of the logit's gradient.

    Source: Selvaraju et al. 2017, arXiv:1610.02391. A transformer's tokens are laid out as a map; those of its class
    and its registers are left out. Coarse: a cell of the last map is 16 to 32 pixels wide.

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
        weights = gradients.mean(dim=(2, 3), keepdim=True)
        return (weights * maps).sum(dim=1)
