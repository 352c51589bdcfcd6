"""Grad-CAM: the last feature maps, weighted by the gradients of the logit of the class."""

from __future__ import annotations

from torch import Tensor

from lesion_exp.explanation.class_activation import ClassActivation


class GradCam(ClassActivation):
    """relu(sum_k w_k A_k), where w_k is the mean of the gradient of the logit over the map A_k.

    Source: Selvaraju et al. 2017, arXiv:1610.02391. The maps are coarse: cells are 16 to 32 pixels wide.
    """

    def weights(self, maps: Tensor, gradients: Tensor) -> Tensor:
        """Returns the mean gradient of each map, float32 (N, C)."""
        return gradients.mean(dim=(2, 3))
