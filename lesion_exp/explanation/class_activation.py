"""What the methods of class activation maps have in common: feature maps, weighted and added up."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from lesion_exp.explanation.cells import spread
from lesion_exp.explanation.explainer import Explainer
from lesion_exp.explanation.network import ExplainedNetwork


class ClassActivation(Explainer):
    """relu(sum_k w_k A_k) over the maps A_k of a layer, each cell where it lies in the image.

    A transformer's tokens are laid out as a map; those of its class and its registers are left out.

    Args:
        layer: dotted name of the module, inside the body's network, whose output is the maps; None is the last maps.
    """

    def __init__(self, layer: str | None = None) -> None:
        self.layer = layer

    @property
    def passes(self) -> int:
        """A forward pass and a backward pass."""
        return 3

    @abstractmethod
    def weights(self, maps: Tensor, gradients: Tensor) -> Tensor:
        """The weight of each map, float32 (N, C), from the maps and the class's gradients, float32 (N, C, h, w)."""

    def attribute(self, network: ExplainedNetwork, images: Tensor, targets: Tensor) -> Tensor:
        """The weighted sum of the maps, float32 (N, H, W); what is negative counts as none before it is spread out."""
        last = network.last_maps(images, targets, self.layer)
        weights = self.weights(last.maps, last.gradients)
        summed = (weights[:, :, None, None] * last.maps).sum(dim=1)
        return spread(summed.clamp(min=0), last.cells, images.shape[-1])
