"""Soft macro F1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lesion_exp.loss.base import Loss


class SoftF1(Loss):
    """1 - mean over the classes of the batch of 2 tp_c / (2 tp_c + fp_c + fn_c), computed from probabilities.

    tp_c = sum_i p_ic y_ic, fp_c = sum_i p_ic (1 - y_ic), fn_c = sum_i (1 - p_ic) y_ic, with p the softmax of the logits
    and y one-hot. If all probabilities are 0 or 1, the loss is 1 - macro F1. Classes without an image in the batch are
    left out, because their F1 is 0 for any prediction. The loss is a statistic of the batch, not a mean over images,
    and so works best with batches of at least 64 images. Source: Pastor-Pellicer et al. 2013,
    doi:10.1007/978-3-642-38679-4_37.
    """

    def compute(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns 1 - soft macro F1 of the batch; `logits` float32 (N, C), `labels` int64 (N,)."""
        return self.compute_weighted(logits, labels, torch.ones(len(labels), device=logits.device))

    def compute_weighted(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Returns 1 - soft macro F1, in whose counts an image counts by its weight; `weights` float32 (N,)."""
        probs = F.softmax(logits, dim=1) * weights[:, None]
        targets = F.one_hot(labels, self.num_classes).to(probs.dtype)
        num_true = (targets * weights[:, None]).sum(dim=0)
        # 2 tp + fp + fn is the sum of the probabilities plus the number of true images, both by weight
        f1 = 2 * (probs * targets).sum(dim=0) / (probs.sum(dim=0) + num_true).clamp_min(1e-12)
        present = num_true > 0
        return 1 - f1[present].mean()
