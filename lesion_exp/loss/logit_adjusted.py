"""Logit-adjusted cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lesion_exp.loss.base import Loss
from lesion_exp.value_range import check_range


class LogitAdjusted(Loss):
    """The cross-entropy of logits_c + tau log(n_c / N), with n_c of the N training images in class c.

    The adjustment is only part of the loss. The network learns logits without the prior, so the argmax of its logits
    aims at balanced accuracy. The loss with tau 0 is the cross-entropy.
    Source: Menon et al. 2021, arXiv:2007.07314, equation 10.

    Args:
        class_counts: training images of each class, in class order.
        tau: strength of the adjustment, at least 0.

    Raises:
        ConfigError: `tau` is negative.
        DataError: a class has no training image.
    """

    adjustment: Tensor

    def __init__(self, class_counts: Sequence[int], tau: float = 1.0) -> None:
        super().__init__(class_counts)
        check_range("loss.tau", tau)
        counts = torch.tensor([float(count) for count in class_counts], dtype=torch.float64)
        self.register_buffer("adjustment", (tau * (counts / counts.sum()).log()).float(), persistent=False)

    def compute(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the mean cross-entropy of the adjusted logits; `logits` float32 (N, C), `labels` int64 (N,)."""
        return F.cross_entropy(logits + self.adjustment, labels)

    def terms(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of each image, and 1 for each."""
        losses = F.cross_entropy(logits + self.adjustment, labels, reduction="none")
        return losses, torch.ones_like(losses)
