"""Grad-CAM++: Grad-CAM with a weighted mean of the gradients over each map."""

from __future__ import annotations

import torch
from torch import Tensor

from lesion_exp.explanation.grad_cam import ClassActivation


class GradCamPlusPlus(ClassActivation):
    """relu(sum_k w_k A_k) with w_k = sum_ij a_kij relu(g_kij), a = g^2 / (2 g^2 + sum_ij A_kij g^3), g the gradient.

    Small regions that raise the logit count as much as large ones, so that several spots are all shown. Source:
    Chattopadhyay et al. 2018, arXiv:1710.11063; the factor exp(logit) is constant for an image and left out.
    """

    def weights(self, maps: Tensor, gradients: Tensor) -> Tensor:
        """Returns the weighted sum of the positive gradients of each map, float32 (N, C)."""
        squares = gradients.square()
        below = 2 * squares + maps.sum(dim=(2, 3), keepdim=True) * squares * gradients
        alphas = torch.where(below != 0, squares / torch.where(below != 0, below, 1.0), 0.0)
        return (alphas * gradients.clamp(min=0)).sum(dim=(2, 3))
