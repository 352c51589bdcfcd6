"""The network of a run: one or two feature extractors, metadata, and the head that turns features into logits."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lesion_exp.backbone.heads import make_head
from lesion_exp.backbone.lora import add_lora, lora_weights, merge_lora
from lesion_exp.backbone.network import FeatureExtractor
from lesion_exp.backbone.options import InputsAndOutputs, SharedOptions, num_last_groups
from lesion_exp.backbone.surgery import widen_input
from lesion_exp.errors import ConfigError


class MetadataEmbedding(nn.Module):
    """Computes features of metadata by two layers of 512 and 128 units with Swish and dropout 0.3.

    The winners of the ISIC challenges of 2019 and 2020 used it (Gessert et al. 2020, doi:10.1016/j.mex.2020.100864;
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
        """Returns the features, float32 (N, 128), of metadata float32 (N, D)."""
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
        """Returns the gated features, float32 (N, F), of features (N, F) and metadata (N, D)."""
        gated: Tensor = (features * self.scale(metadata)).tanh().add(self.shift(metadata)).sigmoid()
        return gated


class Backbone(nn.Module):
    """The network of a run: from images, and clinical photographs and metadata if the run uses them, to logits.

    Args:
        body: the feature extractor of the dermoscopic image.
        shared: the keys of `conf/backbone` that do not depend on the network.
        shape: the inputs and outputs that data and task require.
        head_name: the name of the last layer in the library of the network; the head replaces this layer.

    Raises:
        ConfigError: metadata fusion is chosen without metadata; or see `tuned_parameters`.
    """

    def __init__(self, body: FeatureExtractor, shared: SharedOptions, shape: InputsAndOutputs, head_name: str) -> None:
        super().__init__()
        if shared.metadata != "none" and not shape.metadata_width:
            raise ConfigError(
                f"expected metadata columns for backbone.metadata={shared.metadata}, got none; set "
                f"backbone.metadata=none"
            )
        self.shared = shared
        self.shape = shape
        self.in_channels = shape.in_channels
        self.freeze_epochs = shared.freeze_epochs
        self.layer_decay = shared.layer_decay
        self.is_convolutional = body.is_convolutional
        self.head_name = head_name
        self.body = body
        self.clinical_body = _second_body(body, shared, shape) if shape.two_views else None
        width = body.num_features * (2 if shape.two_views else 1)
        self.gate = MetaBlock(width, shape.metadata_width) if shared.metadata == "metablock" else None
        self.embedding = MetadataEmbedding(shape.metadata_width) if shared.metadata == "concat" else None
        if self.embedding is not None:
            width += self.embedding.num_features
        self.dropout = nn.Dropout(shared.dropout)
        self.head = make_head(shared.head, width, shape.num_classes, shared.knn)
        if shared.tune != "full":  # with full, parameters that a network freezes itself stay frozen
            self.unfreeze_body()

    def forward(self, images: Tensor, clinical: Tensor | None = None, metadata: Tensor | None = None) -> Tensor:
        """Returns the logits, float32 (N, num_classes), unnormalised. The head always computes in float32.

        Args:
            images: float32 (N, C, S, S), normalised.
            clinical: float32 (N, 3, S, S), the clinical photographs; with two views only.
            metadata: float32 (N, D); with metadata fusion only.
        """
        return self.classify(self.encode(images, clinical), metadata)

    def encode(self, images: Tensor, clinical: Tensor | None = None) -> Tensor:
        """Returns the features of the images, floating point (N, F): the output of the bodies, without metadata."""
        features: Tensor = self.body(images)
        if self.shape.two_views:
            assert clinical is not None, "a classifier of two views needs the clinical photograph"
            branch = self.body if self.clinical_body is None else self.clinical_body
            features = torch.cat([features, branch(clinical)], dim=1)
        return features

    def classify(self, features: Tensor, metadata: Tensor | None = None) -> Tensor:
        """Returns the logits, float32 (N, num_classes), of features that `encode` returned."""
        if self.gate is not None:
            assert metadata is not None, "metadata fusion needs metadata"
            features = self.gate(features, metadata)
        if self.embedding is not None:
            assert metadata is not None, "metadata fusion needs metadata"
            features = torch.cat([features, self.embedding(metadata)], dim=1)
        logits: Tensor = self.head(self.dropout(features))
        return logits

    def state_of_bodies(self) -> dict[str, Tensor]:
        """Returns the weights and buffers that `encode` reads."""
        return {
            f"{place}.{name}": tensor
            for place, body in enumerate(self._bodies())
            for name, tensor in body.state_dict().items()
        }

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Returns all parameters in groups from the input to the head, each parameter once."""
        groups = list(self.body.layers().values())
        if self.clinical_body is not None:
            groups = [[*a, *b] for a, b in zip(groups, self.clinical_body.layers().values(), strict=True)]
        return [*groups, self.head_parameters()]

    def head_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters after the bodies: those of the head and of metadata fusion."""
        body = {id(parameter) for module in self._bodies() for parameter in module.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in body]

    def tuned_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters that `backbone.tune` trains after `freeze_epochs`, from the input to the head.

        Raises:
            ConfigError: `backbone.tune` names more groups than the body has, or the body has no normalisation layers
                for `norms`.
        """
        *body, head = self.layer_groups()
        tune, number = self.shared.tune, num_last_groups(self.shared.tune)
        if tune == "full":
            chosen = body
        elif tune == "lora":
            chosen = [[weights for body in self._bodies() for weights in lora_weights(body)]]
        elif tune == "norms":
            chosen = [[weights for module in self._norms() for weights in module.parameters(recurse=False)]]
            if not chosen[0]:
                raise ConfigError(
                    "expected a network with normalisation layers for backbone.tune=norms, got one without; set "
                    "backbone.tune=head"
                )
        else:
            if number is not None and number > len(body):
                raise ConfigError(
                    f"expected backbone.tune=last:N with N up to {len(body)}, the groups of layers that this body has, "
                    f"got {tune}; use backbone.tune=full to train all of them"
                )
            chosen = body[len(body) - (number or 0) :]
        return [*(weights for group in chosen for weights in group), *head]

    def tuned_layers(self) -> list[str]:
        """Returns the names of the groups of layers of the body that `backbone.tune=last:N` trains; else none."""
        number = num_last_groups(self.shared.tune)
        return [] if number is None else list(self.body.layers())[-number:]

    def freeze_body(self) -> None:
        """Stops training the bodies; their normalisation layers then keep their statistics, too."""
        for body in self._bodies():
            body.requires_grad_(False)
        self.train(self.training)

    def unfreeze_body(self) -> None:
        """Trains the parameters of the bodies that `backbone.tune` names."""
        tuned = {id(weights) for weights in self.tuned_parameters()}
        for body in self._bodies():
            for weights in body.parameters():
                weights.requires_grad_(id(weights) in tuned)
        self.train(self.training)

    def add_lora(self) -> None:
        """Adds the matrices that `backbone.tune=lora` trains. The output of the network does not change.

        Raises:
            ConfigError: see `lora.add_lora`.
        """
        for body, channels in zip(self._bodies(), (self.in_channels, 3), strict=False):
            add_lora(body.network, self.shared.lora, channels, self.shape.image_size)
        self.unfreeze_body()

    def merge_lora(self) -> None:
        """Merges the matrices of `add_lora` into the weights and removes them, which leaves an ordinary network."""
        for body in self._bodies():
            merge_lora(body.network, self.shared.lora.scaling)

    def train(self, mode: bool = True) -> Backbone:
        """Sets the mode as in torch, but modules of the bodies without a trained weight stay in evaluation mode."""
        super().train(mode)
        if mode:
            for body in self._bodies():
                _keep_frozen_in_evaluation(body)
        return self

    def library_names(self) -> dict[str, str] | None:
        """Returns the name of each weight in the network of the library that the body comes from.

        The result is None if the library's network lacks some of the weights: those of a second body, of metadata
        fusion or of another head.
        """
        if self.shape.two_views or self.shared.metadata != "none" or self.shared.head != "linear" or not self.head_name:
            return None
        ways = {"body.network.": "", "head.": f"{self.head_name}."}
        names = {}
        for name in self.state_dict():
            own = next(way for way in ways if name.startswith(way))
            names[name] = ways[own] + name.removeprefix(own)
        return names

    def cam_layer(self) -> nn.Module:
        """Returns the module that makes the last feature map of the dermoscopic image."""
        return self.body.cam_layer()

    def _norms(self) -> list[nn.Module]:
        return [module for body in self._bodies() for module in body.modules() if "Norm" in type(module).__name__]

    def _bodies(self) -> list[FeatureExtractor]:
        return [self.body] if self.clinical_body is None else [self.body, self.clinical_body]


def _keep_frozen_in_evaluation(module: nn.Module) -> None:
    weights = list(module.parameters())
    if weights and not any(weight.requires_grad for weight in weights):
        module.eval()
        return
    for child in module.children():
        _keep_frozen_in_evaluation(child)


def _second_body(body: FeatureExtractor, shared: SharedOptions, shape: InputsAndOutputs) -> FeatureExtractor | None:
    """Returns a copy of `body` for clinical photographs, which have no mask, or None if both views share one."""
    if shared.share_branches:
        if shape.in_channels != 3:
            raise ConfigError(
                "expected backbone.share_branches=false with dataset.mask=channel, because a clinical photograph has "
                "no mask, got true; set backbone.share_branches=false"
            )
        return None
    second = copy.deepcopy(body)
    widen_input(second.network, 3)
    return second


@contextmanager
def without_running(network: nn.Module) -> Iterator[None]:
    """Within the block, the running statistics of the batch normalisations of `network` do not change."""
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    before = [(part.momentum, part.num_batches_tracked.clone()) for part in norms]  # type: ignore[union-attr]
    for part in norms:
        part.momentum = 0.0  # to put the statistics back afterwards would disturb the backward pass
    try:
        yield
    finally:
        for part, (momentum, count) in zip(norms, before, strict=True):
            part.momentum = momentum
            part.num_batches_tracked.copy_(count)  # type: ignore[union-attr]
