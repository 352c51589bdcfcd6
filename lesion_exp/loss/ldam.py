"""Label-distribution-aware margin loss with deferred reweighting."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lesion_exp.errors import ConfigError
from lesion_exp.loss.base import Loss, class_weights
from lesion_exp.value_range import check_range


class LDAM(Loss):
    """The cross-entropy of scale * (z - margin_y e_y): the margin is subtracted from the logit of the true class y.

    margin_c is proportional to n_c^(-1/4), with n_c training images of class c, and is `max_margin` for the rarest
    class, so that rare classes get larger margins. From epoch `defer_epoch * max_epochs` on, classes also have weights
    by their effective number (deferred reweighting), except in `val/loss`, whose epochs could not be compared. The loss
    with margin 0 and scale 1 is the cross-entropy. Source: Cao et al. 2019, arXiv:1906.07413, equations 11 to 13 and
    section 3.3.

    The logits in the paper are cosines from a normalised head, with scale 30. The heads of this package return
    unnormalised logits, hence the default scale 1.

    Args:
        class_counts: training images of each class, in class order.
        max_margin: margin of the rarest class, in units of a logit, at least 0.
        scale: factor of the logits after subtraction of the margin, positive.
        defer_epoch: share of the epochs before reweighting begins, in [0, 1]; 1 is no reweighting.
        beta: parameter of the effective number, in [0, 1).

    Raises:
        ConfigError: a value is out of range.
        DataError: a class has no training image.
    """

    margins: Tensor
    weights: Tensor

    def __init__(
        self,
        class_counts: Sequence[int],
        max_margin: float = 0.5,
        scale: float = 1.0,
        defer_epoch: float = 0.8,
        beta: float = 0.9999,
    ) -> None:
        super().__init__(class_counts)
        check_range("loss.max_margin", max_margin)
        check_range("loss.scale", scale)
        check_range("loss.defer_epoch", defer_epoch)
        self.scale = scale
        self.defer_epoch = defer_epoch
        self.reweighting = False
        margins = torch.tensor([float(count) for count in class_counts], dtype=torch.float64) ** -0.25
        self.register_buffer("margins", (margins * max_margin / margins.max()).float(), persistent=False)
        weights = class_weights(class_counts, "effective_number", beta=beta)
        self.register_buffer("weights", weights, persistent=False)

    def set_epoch(self, epoch: int, max_epochs: int) -> None:
        """Enables the reweighting from epoch `defer_epoch * max_epochs` on; `epoch` is counted from 0.

        Raises:
            ConfigError: `max_epochs` is not positive and reweighting depends on it.
        """
        if self.defer_epoch < 1 and max_epochs <= 0:
            raise ConfigError(
                f"expected a positive trainer.max_epochs for loss.defer_epoch={self.defer_epoch}, which is a share of "
                f"it, got trainer.max_epochs={max_epochs}; set a positive number of epochs, or loss.defer_epoch=1"
            )
        self.reweighting = self.defer_epoch < 1 and epoch >= self.defer_epoch * max_epochs

    def of_validation(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss without reweighting in every epoch, so that epochs can be compared; see `forward`."""
        reweighting, self.reweighting = self.reweighting, False
        value = super().of_validation(logits, labels)
        self.reweighting = reweighting
        return value

    def compute(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the mean loss of a batch; `logits` float32 (N, C), `labels` int64 (N,)."""
        return F.cross_entropy(self._scaled(logits, labels), labels, self.weights if self.reweighting else None)

    def terms(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the weighted loss of each image and the weight of its class."""
        weights = self.weights if self.reweighting else None
        losses = F.cross_entropy(self._scaled(logits, labels), labels, weights, reduction="none")
        return losses, torch.ones_like(losses) if weights is None else weights[labels]

    def _scaled(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.scale * (logits - F.one_hot(labels, self.num_classes) * self.margins)
