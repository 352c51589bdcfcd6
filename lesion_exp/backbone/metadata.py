"""Age, sex and site joined to the image features."""

from __future__ import annotations

from torch import Tensor, nn


class MetadataEmbedding(nn.Module):
    """Metadata as features: two layers of 512 and 128 units with Swish and dropout 0.3.

    The form that won the ISIC challenges of 2019 and 2020 (Gessert et al. 2020, doi:10.1016/j.mex.2020.100864;
    Ha et al. 2020, arXiv:2010.05351).
    """

    num_features = 128

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 512),
            nn.BatchNorm1d(512),
            nn.SiLU(),
            nn.Dropout(0.3),
            nn.Linear(512, self.num_features),
            nn.BatchNorm1d(self.num_features),
            nn.SiLU(),
        )

    def forward(self, metadata: Tensor) -> Tensor:
        """float32 (N, D) -> float32 (N, 128)."""
        features: Tensor = self.layers(metadata)
        return features


class MetaBlock(nn.Module):
    """Image features V gated by metadata U: sigmoid(tanh(V * f(U)) + g(U)), f and g linear layers with batch norm.

    Source: Pacheco and Krohling 2021, doi:10.1109/JBHI.2021.3062002. Here V is the pooled feature vector, so that the
    block is the same for convolutional networks and transformers.
    """

    def __init__(self, num_features: int, width: int) -> None:
        super().__init__()
        self.scale = nn.Sequential(nn.Linear(width, num_features), nn.BatchNorm1d(num_features))
        self.shift = nn.Sequential(nn.Linear(width, num_features), nn.BatchNorm1d(num_features))

    def forward(self, features: Tensor, metadata: Tensor) -> Tensor:
        """float32 (N, F) and (N, D) -> float32 (N, F)."""
        gated: Tensor = (features * self.scale(metadata)).tanh().add(self.shift(metadata)).sigmoid()
        return gated
