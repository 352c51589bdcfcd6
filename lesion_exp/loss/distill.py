"""Distillation: the loss of the labels, and the divergence from the probabilities of a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lesion_exp.errors import ConfigError, check_choice
from lesion_exp.loss.base import Loss
from lesion_exp.value_range import check_range

Views = Literal["fixed", "same"]
"""Which image the teacher sees."""


class Distill(Loss):
    """a L(z, y) + (1 - a) T^2 KL(softmax(t / T) || softmax(z / T)), with logits z, teacher's logits t, labels y.

    T is the temperature, a the share of the labels' loss L, and KL the mean over the batch. The factor T^2 keeps the
    gradient of the second term at about the same size for all temperatures: for large T it tends to that of the squared
    distance of the centred logits over 2 C. Source: Hinton et al. 2015, arXiv:1503.02531, section 2.

    Where a batch comes without a teacher's probabilities, as in validation, the loss is L alone.

    Args:
        class_counts: training images of each class, in class order.
        labels: L, any other loss of this package.
        teacher: the id of the teacher's run; the task reads it.
        teacher_weights: the hash of the teacher's weights; the task reads it.
        temperature: T, positive.
        label_share: a, in [0, 1]; other texts call it, or 1 - a, alpha.
        views: which image the teacher sees: `fixed` (without augmentation, computed once) or `same` (that of the
            student; Beyer et al. 2022, arXiv:2106.05237); the task reads it.
        calibration: a calibration of the teacher's run that is applied to its probabilities, or `none`; the task reads
            it.

    Raises:
        ConfigError: a value is out of range.
        DataError: a class has no training image.
    """

    def __init__(
        self,
        class_counts: Sequence[int],
        labels: Loss,
        teacher: str,
        teacher_weights: str | None = None,
        temperature: float = 4.0,
        label_share: float = 0.1,
        views: Views = "fixed",
        calibration: Literal["none", "temperature", "vector", "isotonic"] = "none",
    ) -> None:
        super().__init__(class_counts)
        check_range("loss.temperature", temperature)
        check_range("loss.label_share", label_share)
        check_choice("loss.views", views, get_args(Views))
        if not isinstance(labels, Loss) or isinstance(labels, Distill):
            raise ConfigError(
                f"expected another loss for the labels, got {type(labels).__name__}; loss@loss.labels=cross_entropy or "
                f"loss@loss.labels=focal chooses one"
            )
        self.labels = labels
        self.teacher, self.teacher_weights = teacher, teacher_weights
        self.temperature, self.label_share = float(temperature), float(label_share)
        self.views, self.calibration = views, calibration

    def forward(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None = None, teacher: Tensor | None = None
    ) -> Tensor:
        """Returns the loss of a batch, float32 scalar, computed in float32 also under autocast.

        Args:
            logits: float (N, C), unnormalised.
            labels: int64 (N,), in 0..C-1.
            weights: float (N,), how much each image counts; None: all equally.
            teacher: float (N, C), logarithms of the teacher's probabilities, which serve as its logits: they differ
                from these by a constant for each image. None: the loss of the labels alone.
        """
        hard: Tensor
        if teacher is None:
            hard = self.labels(logits, labels, weights)
            return hard
        with torch.autocast(logits.device.type, enabled=False):
            soft = self.divergence(logits.float(), teacher.float(), weights)
            if self.label_share == 0:
                return soft
            hard = self.labels(logits, labels, weights)
            return self.label_share * hard + (1 - self.label_share) * soft

    def divergence(self, logits: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns T^2 times the mean divergence, float32 scalar, of float32 `logits` and `teacher` (N, C)."""
        targets, own = (F.log_softmax(values / self.temperature, dim=1) for values in (teacher, logits))
        each = F.kl_div(own, targets, reduction="none", log_target=True).sum(dim=1)
        mean = each.mean() if weights is None else (weights * each).sum() / weights.sum()
        return self.temperature**2 * mean

    def compute(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss of the labels; `logits` float32 (N, C), `labels` int64 (N,)."""
        hard: Tensor = self.labels(logits, labels)
        return hard

    def set_epoch(self, epoch: int, max_epochs: int) -> None:
        """Passes the number of the epoch to the loss of the labels."""
        self.labels.set_epoch(epoch, max_epochs)

    def of_validation(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns that of the loss of the labels; see `forward`."""
        return self.labels.of_validation(logits, labels)
