"""Grad-CAM: the last feature maps, weighted by the gradients of the logit of the class."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import Final

from torch import Tensor

from lesion_exp.explanation.explainer import Explainer
from lesion_exp.explanation.network import ExplainedNetwork, spread

log = logging.getLogger(__name__)
COARSE: Final = 5
"""Maps with fewer cells on a side are too coarse to locate anything in a lesion."""


class ClassActivation(Explainer):
    """relu(sum_k w_k A_k) over the feature maps A_k of a layer.

    The tokens of a transformer are arranged as maps, without its class token and register tokens. Each cell of a map is
    drawn at its position in the image.

    Args:
        layer: dotted name, within the feature extractor, of the module whose output is used; None is the last layer
            with feature maps.
    """

    def __init__(self, layer: str | None = None) -> None:
        self.layer = layer
        self._has_warned = False

    @property
    def passes(self) -> int:
        """One forward pass and one backward pass."""
        return 3

    @abstractmethod
    def weights(self, maps: Tensor, gradients: Tensor) -> Tensor:
        """Returns the weight of each map, float32 (N, C).

        Args:
            maps: float32 (N, C, h, w).
            gradients: gradients of the logit of the class by the maps, float32 (N, C, h, w).
        """

    def attribute(self, network: ExplainedNetwork, images: Tensor, targets: Tensor) -> Tensor:
        """Returns the weighted sum of the maps, float32 (N, H, W); negative sums are set to 0 before interpolation."""
        last = network.last_maps(images, targets, self.layer)
        self._warn_if_coarse(last.maps.shape[-1], network.for_image(0), images[:1])
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
                "maps of %d x %d cells are too coarse to locate anything in a lesion; %s", num_cells, num_cells, remedy
            )


class GradCam(ClassActivation):
    """relu(sum_k w_k A_k), where w_k is the mean of the gradient of the logit over the map A_k.

    Source: Selvaraju et al. 2017, arXiv:1610.02391. The maps are coarse: cells are 16 to 32 pixels wide.
    """

    def weights(self, maps: Tensor, gradients: Tensor) -> Tensor:
        """Returns the mean gradient of each map, float32 (N, C)."""
        return gradients.mean(dim=(2, 3))
