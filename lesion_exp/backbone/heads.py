"""The heads of a network, from features to logits; all of them compute in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from lesion_exp.backbone.options import KNNOptions
from lesion_exp.choices import HEADS
from lesion_exp.errors import check_choice

FIRST_SCALE: Final = 16.0
"""The initial scale of `CosineHead`: with it, cosines from -1 to 1 can give probabilities near 1."""
SMALLEST_SHARE: Final = 1e-4
"""The share of the votes that `KNNHead` gives to a class that no neighbour has."""


def without_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    """Returns a context in which float32 stays float32 on the device of `tensor`.

    If autocast is off, the context does nothing, so that a traced network does not contain it.
    """
    device = tensor.device.type
    if device == "meta" or not torch.is_autocast_enabled(device):  # torch has no autocast there to ask for
        return nullcontext()
    return torch.autocast(device, enabled=False)


def as_float32(tensor: Tensor) -> Tensor:
    """Returns `tensor` in float32; if it is float32 already, a traced network contains no conversion."""
    return tensor if tensor.dtype == torch.float32 else tensor.float()


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32, also under autocast.

    In bf16, which has 8 significant bits, different logits may become equal.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Returns the outputs, float32 (N, out_features), of features (N, in_features) of any floating type."""
        with without_autocast(features):
            return functional.linear(as_float32(features), as_float32(self.weight), as_float32(self.bias))


class MLPHead(nn.Module):
    """Two linear layers with a GELU in between; the hidden layer is as wide as the features.

    Args:
        in_features: length of a feature vector.
        num_classes: length of the logits.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.hidden = Float32Linear(in_features, in_features)
        self.out = Float32Linear(in_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Returns the logits, float32 (N, num_classes), of features (N, in_features) of any floating type."""
        logits: Tensor = self.out(functional.gelu(self.hidden(features)))
        return logits


class CosineHead(nn.Module):
    """The cosine of the angle between features and the direction of each class, times a scale that is trained.

    Lengths have no effect, so that frequent classes do not get longer weight vectors than rare ones (Gidaris and
    Komodakis 2018, arXiv:1804.09458).

    Args:
        in_features: length of a feature vector.
        num_classes: length of the logits.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.weight = nn.Parameter(torch.empty(num_classes, in_features))
        self.scale = nn.Parameter(torch.tensor(FIRST_SCALE))
        nn.init.normal_(self.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Returns the logits, float32 (N, num_classes), of features (N, in_features) of any floating type."""
        with without_autocast(features):
            directions = functional.normalize(as_float32(self.weight), dim=1)
            cosines = functional.linear(functional.normalize(as_float32(features), dim=1), directions)
            return as_float32(self.scale) * cosines


class KNNHead(nn.Module):
    """The votes of the k training images with the nearest features, as logarithms of the shares of the classes.

    The nearest features are those with the largest cosine. A neighbour votes for its class with exp(cosine /
    temperature), times the weight of the class (Wu et al. 2018, arXiv:1805.01978; Caron et al. 2021, arXiv:2104.14294,
    with k = 20 and temperature 0.07). A class without a vote gets the share `SMALLEST_SHARE`, so that the log loss is
    finite.

    Nothing is trained: `remember` stores the features, and they are part of the state, in float16. Cosines of
    normalised features in float16 differ by less than 0.001 from those in float32.

    Args:
        in_features: length of a feature vector.
        num_classes: length of the logits.
        options: number of neighbours and temperature.
    """

    memory: Tensor
    """float16 (M, F), normalised to length 1; none before `remember`."""
    memory_labels: Tensor
    """int64 (M,)."""
    class_weights: Tensor
    """float32 (C,), of the votes."""

    def __init__(self, in_features: int, num_classes: int, options: KNNOptions) -> None:
        super().__init__()
        self.in_features = in_features
        self.options = options
        self.register_buffer("memory", torch.zeros(0, in_features, dtype=torch.float16))
        self.register_buffer("memory_labels", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("class_weights", torch.ones(num_classes))

    def remember(self, features: Tensor, labels: Tensor, class_weights: Tensor | None) -> None:
        """Stores features (M, F) of any floating type with their labels (M,), instead of those stored before."""
        with without_autocast(features):
            self.memory = functional.normalize(as_float32(features), dim=1).half()
        self.memory_labels = labels.clone()
        if class_weights is not None:
            self.class_weights = class_weights.float().to(features.device)

    def forward(self, features: Tensor) -> Tensor:
        """Returns the logits, float32 (N, num_classes), of features (N, in_features); zeros before `remember`."""
        if not len(self.memory):
            return features.float().sum(dim=1, keepdim=True) * self.class_weights * 0
        with without_autocast(features):
            return self._votes(self._cosines(features))

    def without_itself(self, places: Tensor) -> Tensor:
        """Returns the logits, float32 (N, C), of the stored images at `places` (N,), by the votes of the others."""
        with without_autocast(self.memory):
            cosines = self._cosines(self.memory[places])
            cosines[torch.arange(len(places)), places] = -torch.inf
            return self._votes(cosines)

    def megabytes(self) -> float:
        """Returns the size in a file of the stored features and labels, in megabytes."""
        return (self.memory.nbytes + self.memory_labels.nbytes) / 1e6

    def _cosines(self, features: Tensor) -> Tensor:
        return functional.linear(functional.normalize(as_float32(features), dim=1), self.memory.float())

    def _votes(self, cosines: Tensor) -> Tensor:
        nearest, places = cosines.topk(min(self.options.k, len(self.memory)), dim=1)
        weights = ((nearest - nearest[:, :1]) / self.options.temperature).exp()
        classes = torch.arange(len(self.class_weights), device=cosines.device)
        is_class = (self.memory_labels[places].unsqueeze(2) == classes).float()
        votes = (weights.unsqueeze(2) * is_class).sum(dim=1) * self.class_weights
        return (votes / votes.sum(dim=1, keepdim=True) + SMALLEST_SHARE).log()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        for name in ("memory", "memory_labels"):  # how many images there are is known from the file alone
            stored = state_dict.get(f"{prefix}{name}")
            if stored is not None and stored.shape[1:] == getattr(self, name).shape[1:]:
                setattr(self, name, torch.empty_like(stored, device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *arguments)


Head = Float32Linear | MLPHead | CosineHead | KNNHead


def make_head(name: str, in_features: int, num_classes: int, knn: KNNOptions = KNNOptions()) -> Head:  # noqa: B008
    """Returns the head called `name`: `linear`, `mlp`, `cosine` or `knn`. Each has the attribute `in_features`.

    Raises:
        ConfigError: the name is unknown.
    """
    check_choice("backbone.head", name, HEADS)
    if name == "knn":
        return KNNHead(in_features, num_classes, knn)
    kinds: dict[str, type[Float32Linear | MLPHead | CosineHead]] = {
        "linear": Float32Linear,
        "mlp": MLPHead,
        "cosine": CosineHead,
    }
    return kinds[name](in_features, num_classes)
