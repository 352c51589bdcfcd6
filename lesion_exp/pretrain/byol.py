"""BYOL: from one view of an image, a network predicts the projection of the other view by its own moving average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

from lesion_exp.pretrain.method import (
    BodyFacts,
    Method,
    Progress,
    check_momentum,
    features_of,
    follow,
    in_float32,
    momentum_at,
    momentum_copy,
    without_autocast,
)

PACKAGE: Final = "lightly"


class BYOL(Method):
    """Negative cosine similarity between the prediction of one view and the target's projection of the other.

    The target is a moving average of body and projection, whose momentum rises from `momentum` to 1 along half a cosine
    (Grill et al. 2020, arXiv:2006.07733). The loss is the mean of both directions, from -1 to 1.

    Args:
        facts: the properties of the body.
        hidden_dim: width of the hidden layers of projection and prediction.
        output_dim: length of a projection.
        momentum: the momentum of the target at the first step, from 0 to 1.

    Raises:
        ConfigError: the momentum is out of range.
    """

    follows_length: ClassVar[bool] = True

    def __init__(self, facts: BodyFacts, hidden_dim: int = 4096, output_dim: int = 256, momentum: float = 0.99) -> None:
        super().__init__()
        check_momentum("momentum", momentum)
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead

        self.momentum = momentum
        self.projection = BYOLProjectionHead(facts.num_features, hidden_dim, output_dim)
        self.prediction = BYOLPredictionHead(output_dim, hidden_dim, output_dim)
        self.target_projection = momentum_copy(self.projection)
        self.target: nn.Module | None = None
        self.objective = NegativeCosineSimilarity()

    def attach(self, body: nn.Module) -> None:
        """Makes the target, which begins as the body."""
        self.target = momentum_copy(body)

    def before_step(self, body: nn.Module, progress: Progress) -> None:
        """Moves the target towards the trained weights."""
        momentum = momentum_at(progress, self.momentum, 1.0)
        follow(self._target(), body, momentum)
        follow(self.target_projection, self.projection, momentum)

    def loss(self, body: nn.Module, views: Sequence[Tensor], progress: Progress) -> Tensor:
        """See `Method.loss`."""
        predicted = [self.prediction(self.projection(features)) for features in features_of(body, views)]
        with torch.no_grad():
            wanted = [self.target_projection(features) for features in features_of(self._target(), views)]
        first, second, target_first, target_second = in_float32(*predicted, *wanted)
        with without_autocast(first.device):
            value: Tensor = 0.5 * (self.objective(first, target_second) + self.objective(second, target_first))
        return value

    def _target(self) -> Any:
        assert self.target is not None, "attach was called"
        return self.target
