"""Focal loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lesion_exp.loss.base import Loss, Scheme
from lesion_exp.loss.base import class_weights as weights_of_classes
from lesion_exp.value_range import check_range

_SMALLEST_GAP = 1e-12
"""The smallest value of 1 - p: with gamma below 1 the derivative of (1 - p)^gamma is infinite at p = 1."""


class Focal(Loss):
    """sum_i w_{y_i} (1 - p_i)^gamma (-log p_i) / sum_i w_{y_i}, with p_i the softmax probability of the true class.

    Images that are already classified well have less weight. The single alpha of two classes is generalised to a weight
    for each class. The loss with gamma 0 is the weighted cross-entropy. Source: Lin et al. 2017, arXiv:1708.02002.

    Args:
        class_counts: training images of each class, in class order.
        gamma: focusing exponent, at least 0.
        class_weights: scheme of the class weights w: `none`, `balanced`, `inverse` or `effective_number`.
        power: exponent of `inverse`.
        beta: parameter of `effective_number`.

    Raises:
        ConfigError: a value is out of range or has no effect.
        DataError: a class has no training image.
    """

    weights: Tensor | None

    def __init__(
        self,
        class_counts: Sequence[int],
        gamma: float = 2.0,
        class_weights: Scheme = "none",
        power: float | None = None,
        beta: float | None = None,
    ) -> None:
        super().__init__(class_counts)
        check_range("loss.gamma", gamma)
        self.gamma = gamma
        weights = weights_of_classes(class_counts, class_weights, power, beta)
        self.register_buffer("weights", weights, persistent=False)

    def compute(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the weighted mean focal loss; `logits` float32 (N, C), `labels` int64 (N,)."""
        losses = self._losses(logits, labels)
        if self.weights is None:
            return losses.mean()
        weights = self.weights[labels]
        return (weights * losses).sum() / weights.sum()

    def terms(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the weighted focal loss of each image and the weight of its class."""
        losses = self._losses(logits, labels)
        weights = torch.ones_like(losses) if self.weights is None else self.weights[labels]
        return weights * losses, weights

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_probs = F.log_softmax(logits, dim=1).gather(1, labels[:, None]).squeeze(1)
        gaps = (-torch.expm1(log_probs)).clamp_min(_SMALLEST_GAP)  # 1 - p, exact also near p = 1
        return -log_probs * gaps**self.gamma
