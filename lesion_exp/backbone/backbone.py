"""The network of a run: one or two bodies, metadata, and the head that turns features into logits."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lesion_exp.backbone.body import Body
from lesion_exp.backbone.metadata import MetaBlock, MetadataEmbedding
from lesion_exp.errors import ConfigError, did_you_mean

Metadata = Literal["none", "concat", "metablock"]
METADATA_MODES = ("none", "concat", "metablock")


@dataclass(frozen=True)
class HeadOptions:
    """What comes after the body; the shared keys of `conf/backbone` and what is known after reading the data."""

    num_classes: int
    in_channels: int
    metadata_width: int
    two_views: bool
    metadata: str
    dropout: float
    freeze_epochs: int
    layer_decay: float
    share_branches: bool

    def __post_init__(self) -> None:
        if self.metadata not in METADATA_MODES:
            raise ConfigError(
                f"expected backbone.metadata to be one of {', '.join(METADATA_MODES)}, got {self.metadata!r}"
                f"{did_you_mean(self.metadata, METADATA_MODES)}"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"expected backbone.dropout from 0 up to below 1, got {self.dropout}")
        if self.freeze_epochs < 0:
            raise ConfigError(f"expected backbone.freeze_epochs of at least 0, got {self.freeze_epochs}")
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"expected backbone.layer_decay above 0 up to 1 (none), got {self.layer_decay}")


class Backbone(nn.Module):
    """Images, a second view and metadata in; logits out.

    Args:
        body: the network for the dermoscopic image.
        options: the head and what is fused before it.
        head_name: what the library of the body's network calls its last layer, which the head stands for.

    Raises:
        ConfigError: metadata fusion without metadata.
    """

    def __init__(self, body: Body, options: HeadOptions, head_name: str) -> None:
        super().__init__()
        if options.metadata != "none" and not options.metadata_width:
            raise ConfigError(f"expected metadata columns for backbone.metadata={options.metadata}, got none")
        self.options = options
        self.in_channels = options.in_channels
        self.freeze_epochs = options.freeze_epochs
        self.layer_decay = options.layer_decay
        self.is_convolutional = body.is_convolutional
        self.head_name = head_name
        self.body = body
        self.clinical_body = _second_body(body, options) if options.two_views else None
        width = body.num_features * (2 if options.two_views else 1)
        self.gate = MetaBlock(width, options.metadata_width) if options.metadata == "metablock" else None
        self.embedding = MetadataEmbedding(options.metadata_width) if options.metadata == "concat" else None
        if self.embedding is not None:
            width += self.embedding.num_features
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(width, options.num_classes)
        self._frozen = False

    def forward(self, images: Tensor, clinical: Tensor | None = None, metadata: Tensor | None = None) -> Tensor:
        """Logits, float (N, num_classes), unnormalised.

        Args:
            images: float32 (N, C, S, S), normalised.
            clinical: float32 (N, 3, S, S), the clinical photographs; with two views only.
            metadata: float32 (N, D); with metadata fusion only.
        """
        features = self.body(images)
        if self.options.two_views:
            assert clinical is not None, "a classifier of two views needs the clinical photograph"
            branch = self.body if self.clinical_body is None else self.clinical_body
            features = torch.cat([features, branch(clinical)], dim=1)
        if self.gate is not None:
            assert metadata is not None, "metadata fusion needs metadata"
            features = self.gate(features, metadata)
        if self.embedding is not None:
            assert metadata is not None, "metadata fusion needs metadata"
            features = torch.cat([features, self.embedding(metadata)], dim=1)
        logits: Tensor = self.head(self.dropout(features))
        return logits

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The trainable parameters in groups from the input to the head, each parameter once."""
        groups = self.body.layers()
        if self.clinical_body is not None:
            groups = [[*a, *b] for a, b in zip(groups, self.clinical_body.layers(), strict=True)]
        return [*groups, self.head_parameters()]

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters after the bodies: head and metadata fusion."""
        body = {id(parameter) for module in self._bodies() for parameter in module.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in body]

    def freeze_body(self) -> None:
        """Stops training the bodies; their normalisation layers then keep their statistics, too."""
        self._frozen = True
        for body in self._bodies():
            body.requires_grad_(False)
        self.train(self.training)

    def unfreeze_body(self) -> None:
        """Trains the bodies again."""
        self._frozen = False
        for body in self._bodies():
            body.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """As in torch, but frozen bodies stay in evaluation mode."""
        super().train(mode)
        if self._frozen:
            for body in self._bodies():
                body.eval()
        return self

    def library_names(self) -> dict[str, str] | None:
        """The name of each weight in the network of the library that the body comes from; None where one of them has
        no place there: a second body, or what reads metadata.
        """
        if self.options.two_views or self.options.metadata != "none":
            return None
        ways = {"body.network.": "", "head.": f"{self.head_name}."}
        names = {}
        for name in self.state_dict():
            own = next(way for way in ways if name.startswith(way))
            names[name] = ways[own] + name.removeprefix(own)
        return names

    def cam_layer(self) -> nn.Module:
        """The module that makes the last feature map of the dermoscopic image."""
        return self.body.cam_layer()

    def _bodies(self) -> list[Body]:
        return [self.body] if self.clinical_body is None else [self.body, self.clinical_body]


def _second_body(body: Body, options: HeadOptions) -> Body | None:
    """A copy of `body` for clinical photographs, or None where both views share one."""
    if options.share_branches:
        if options.in_channels != 3:
            raise ConfigError(
                "expected backbone.share_branches=false with dataset.mask=channel: a photograph has no mask"
            )
        return None
    return copy.deepcopy(body)
