"""Cross-entropy, with class weights and label smoothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lesion_exp.loss.base import Loss, Scheme
from lesion_exp.loss.base import class_weights as weights_of_classes
from lesion_exp.value_range import check_range


class CrossEntropy(Loss):
    """sum_i w_{y_i} (-log p_{i, y_i}) / sum_i w_{y_i}, with p the softmax of the logits.

    Label smoothing s replaces the one-hot target t by (1 - s) t + s / C (Szegedy et al. 2016, arXiv:1512.00567). The
    reduction is that of `torch.nn.functional.cross_entropy`.

    Args:
        class_counts: training images of each class, in class order.
        class_weights: scheme of the class weights w: `none`, `balanced`, `inverse` or `effective_number`.
        power: exponent of `inverse`.
        beta: parameter of `effective_number`.
        label_smoothing: s, in [0, 1).

    Raises:
        ConfigError: a value is out of range or has no effect.
        DataError: a class has no training image.
    """

    weights: Tensor | None

    def __init__(
        self,
        class_counts: Sequence[int],
        class_weights: Scheme = "none",
        power: float | None = None,
        beta: float | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_counts)
        check_range("loss.label_smoothing", label_smoothing)
        self.label_smoothing = label_smoothing
        weights = weights_of_classes(class_counts, class_weights, power, beta)
        self.register_buffer("weights", weights, persistent=False)

    def compute(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the weighted mean cross-entropy; `logits` float32 (N, C), `labels` int64 (N,)."""
        return F.cross_entropy(logits, labels, weight=self.weights, label_smoothing=self.label_smoothing)

    def terms(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the weighted cross-entropy of each image and the weight of its class."""
        losses = F.cross_entropy(
            logits, labels, weight=self.weights, label_smoothing=self.label_smoothing, reduction="none"
        )
        return losses, torch.ones_like(losses) if self.weights is None else self.weights[labels]
