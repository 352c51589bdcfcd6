"""What the methods of class activation maps have in common: feature maps, weighted and added up."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import Final

from torch import Tensor

from lesion_exp.explanation.explainer import Explainer
from lesion_exp.explanation.network import ExplainedNetwork, spread

log = logging.getLogger(__name__)

COARSE: Final = 5
"""Maps of fewer cells a side are too coarse to point at a lesion: the one cell of a small image says nothing."""


class ClassActivation(Explainer):
    """relu(sum_k w_k A_k) over the maps A_k of a layer, each cell where it lies in the image.

    A transformer's tokens are laid out as a map; those of its class and its registers are left out.

    Args:
        layer: dotted name of the module, inside the body's network, whose output is the maps; None is the last maps.
    """

    def __init__(self, layer: str | None = None) -> None:
        self.layer = layer
        self._has_warned = False

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
        self._warn_if_coarse(last.maps.shape[-1], network.of(0), images[:1])
        weights = self.weights(last.maps, last.gradients)
        summed = (weights[:, :, None, None] * last.maps).sum(dim=1)
        return spread(summed.clamp(min=0), last.cells, images.shape[-1])

    def _warn_if_coarse(self, num_cells: int, network: ExplainedNetwork, image: Tensor) -> None:
        if num_cells < COARSE and not self._has_warned:
            self._has_warned = True
            finer = network.finer_layer(image, COARSE)
            remedy = "train with a larger image_size"
            if finer is not None:
                cells = f"{finer.cells} x {finer.cells}"
                remedy = f"an earlier layer has {cells} (explain and serve: grad_cam.layer={finer.name})"
            log.warning(
                "maps of %d x %d cells are too coarse to say where in a lesion; %s", num_cells, num_cells, remedy
            )
