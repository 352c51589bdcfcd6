"""SimCLR: views of the same image are trained to be more similar than views of different images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import Tensor, nn

from lesion_exp.errors import ConfigError
from lesion_exp.pretrain.method import BodyFacts, Method, Progress, features_of, in_float32, without_autocast

PACKAGE: Final = "lightly"


class SimCLR(Method):
    """Normalised temperature-scaled cross-entropy between the projections of two views.

    For a view i with its partner j among the 2N views of a step, the loss is
    -log(exp(s_ij / t) / sum over k != i of exp(s_ik / t)) with the cosine similarity s and the temperature t (Chen et
    al. 2020, arXiv:2002.05709). In several processes the views of all of them are the negatives.

    Args:
        facts: the properties of the body.
        hidden_dim: width of the hidden layer of the projection.
        output_dim: length of a projection.
        temperature: temperature of the softmax, above 0; with a smaller one the most similar other images count more.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(
        self, facts: BodyFacts, hidden_dim: int = 2048, output_dim: int = 128, temperature: float = 0.2
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f"expected pretrain.temperature above 0, got {temperature}; 0.1 to 0.5 is usual")
        from lightly.loss import NTXentLoss
        from lightly.models.modules.heads import SimCLRProjectionHead

        self.projection = SimCLRProjectionHead(facts.num_features, hidden_dim, output_dim)
        self.objective = NTXentLoss(temperature, gather_distributed=True)

    def loss(self, body: nn.Module, views: Sequence[Tensor], progress: Progress) -> Tensor:
        """See `Method.loss`."""
        first, second = in_float32(*(self.projection(features) for features in features_of(body, views)))
        with without_autocast(first.device):
            value: Tensor = self.objective(first, second)
        return value
