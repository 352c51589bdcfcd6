"""Grad-CAM: the last feature maps, weighted by how much the class's logit rises with each."""

from __future__ import annotations

from torch import Tensor

from lesion_exp.explanation.class_activation import ClassActivation


class GradCam(ClassActivation):
    """relu(sum_k w_k A_k), where w_k is the mean over the map A_k of the logit's gradient.

    Source: Selvaraju et al. 2017, arXiv:1610.02391. Coarse: a cell of the last map is 16 to 32 pixels wide.
    """

    def weights(self, maps: Tensor, gradients: Tensor) -> Tensor:
        """The mean gradient of each map, float32 (N, C)."""
        return gradients.mean(dim=(2, 3))
