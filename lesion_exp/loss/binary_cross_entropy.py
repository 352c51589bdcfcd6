"""Binary cross-entropy of two classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lesion_exp.errors import ConfigError
from lesion_exp.loss.base import Loss


class BinaryCrossEntropy(Loss):
    """-(v y log s(d) + (1 - y) log(1 - s(d))), averaged over the batch, with d = z_1 - z_0 and s the logistic function.

    Class 1 is the second one in alphabetical order (`malignant` with `task.target=malignant`), and v is its weight.
    s(d) is the softmax probability of class 1, so that the loss with v = 1 is the cross-entropy of two classes. Unlike
    in a weighted cross-entropy, the sum is divided by the number of images, not by the sum of weights.

    Args:
        class_counts: training images of the two classes.
        pos_weight: v: `none` (1), `balanced` (n_0 / n_1) or a positive number.

    Raises:
        ConfigError: there are not two classes, or `pos_weight` is none of the above.
        DataError: a class has no training image.
    """

    pos_weight: Tensor

    def __init__(self, class_counts: Sequence[int], pos_weight: Literal["none", "balanced"] | float = "none") -> None:
        super().__init__(class_counts)
        if self.num_classes != 2:
            raise ConfigError(
                f"expected two classes for loss=binary_cross_entropy, got {self.num_classes}; set "
                f"task.target=malignant, or choose loss=cross_entropy"
            )
        self.register_buffer("pos_weight", torch.tensor(_weight_of_positives(class_counts, pos_weight)), False)

    def compute(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the mean binary cross-entropy; `logits` float32 (N, 2), `labels` int64 (N,)."""
        margins = logits[:, 1] - logits[:, 0]
        return F.binary_cross_entropy_with_logits(margins, labels.to(margins.dtype), pos_weight=self.pos_weight)

    def terms(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of each image, and 1 for each."""
        margins = logits[:, 1] - logits[:, 0]
        losses = F.binary_cross_entropy_with_logits(
            margins, labels.to(margins.dtype), pos_weight=self.pos_weight, reduction="none"
        )
        return losses, torch.ones_like(losses)


def _weight_of_positives(class_counts: Sequence[int], pos_weight: str | float) -> float:
    if pos_weight == "none":
        return 1.0
    if pos_weight == "balanced":
        return class_counts[0] / class_counts[1]
    if isinstance(pos_weight, (int, float)) and not isinstance(pos_weight, bool) and pos_weight > 0:
        return float(pos_weight)
    raise ConfigError(
        f"expected loss.pos_weight to be none, balanced or a positive number, got {pos_weight!r}; none is the default"
    )
