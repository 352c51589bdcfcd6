"""What every loss promises: logits and labels in, a float32 scalar out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lesion_exp.errors import DataError


class Loss(nn.Module, ABC):
    """A loss of a classifier with one class a lesion.

    Args:
        class_counts: training images of each class, in class order.

    Raises:
        DataError: a class has no training image.
    """

    def __init__(self, class_counts: Sequence[int]) -> None:
        super().__init__()
        absent = [str(position) for position, count in enumerate(class_counts) if count <= 0]
        if absent or not class_counts:
            raise DataError(
                f"expected at least one training image of every class, got the counts {list(class_counts)} (none at "
                f"position {', '.join(absent) or '0'} of the class order, counted from 0); leave the class out with "
                f"dataset.filter, or give its lesions to the training part with another split"
            )
        self.num_classes = len(class_counts)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch, float32 scalar, computed in float32 also under autocast.

        Args:
            logits: float (N, C), unnormalised.
            labels: int64 (N,), in 0..C-1.
        """
        assert logits.shape == (len(labels), self.num_classes), "logits do not fit the labels or the class counts"
        with torch.autocast(logits.device.type, enabled=False):
            return self.compute(logits.float(), labels)

    @abstractmethod
    def compute(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch; `logits` float32 (N, C), `labels` int64 (N,)."""

    def set_epoch(self, epoch: int, max_epochs: int) -> None:
        """Called before each epoch, counted from 0; for losses that change during training."""
        del epoch, max_epochs
