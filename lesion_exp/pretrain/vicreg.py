"""VICReg: two views of an image get similar embeddings, whose dimensions keep their variance and are uncorrelated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import Tensor, nn

from lesion_exp.pretrain.method import BodyFacts, Method, Progress, features_of, in_float32, without_autocast

PACKAGE: Final = "lightly"


class VICReg(Method):
    """Invariance, variance and covariance of the embeddings of two views; it needs no negatives and no large batches.

    The loss is invariance * MSE + variance * mean of max(0, 1 - deviation) + covariance * mean square of the
    covariances off the diagonal (Bardes et al. 2022, arXiv:2105.04906). In several processes the moments are those of
    all of them.

    Args:
        facts: the properties of the body.
        hidden_dim: width of the two hidden layers of the expander.
        output_dim: length of an embedding.
        invariance: weight of the distance between the two views.
        variance: weight of the term that keeps the standard deviation of each dimension above 1.
        covariance: weight of the covariances between dimensions.
    """

    def __init__(
        self,
        facts: BodyFacts,
        hidden_dim: int = 2048,
        output_dim: int = 2048,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
    ) -> None:
        super().__init__()
        from lightly.loss import VICRegLoss
        from lightly.models.modules.heads import BarlowTwinsProjectionHead

        # the expander of the paper has the layers of the projection of Barlow Twins
        self.expander = BarlowTwinsProjectionHead(facts.num_features, hidden_dim, output_dim)
        self.objective = VICRegLoss(invariance, variance, covariance, gather_distributed=True)

    def loss(self, body: nn.Module, views: Sequence[Tensor], progress: Progress) -> Tensor:
        """See `Method.loss`."""
        first, second = in_float32(*(self.expander(features) for features in features_of(body, views)))
        with without_autocast(first.device):
            value: Tensor = self.objective(first, second)
        return value
