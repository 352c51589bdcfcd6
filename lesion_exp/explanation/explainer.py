"""What all explainers have in common: network, images and classes in; maps of the evidence out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from lesion_exp.errors import ConfigError
from lesion_exp.explanation.network import ExplainedNetwork


class Explainer(ABC):
    """Says where in each image the evidence for a class lies."""

    @property
    @abstractmethod
    def passes(self) -> int:
        """About how many forward passes an image costs; a backward pass counts for two."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What every output must say of the maps made so far, in whole sentences without their full stops."""
        return ()

    @abstractmethod
    def attribute(self, network: ExplainedNetwork, images: Tensor, targets: Tensor) -> Tensor:
        """Attributions, float32 (N, h, w): positive for the class, negative against it, on a scale of their own."""

    def __call__(self, network: ExplainedNetwork, images: Tensor, targets: Tensor) -> Tensor:
        """The evidence for the classes `targets`, float32 (N, H, W), from 0 to 1, the largest of each image.

        What speaks against the class counts as none; a map without evidence is 0 all over.

        Args:
            network: what is explained.
            images: float32 (N, C, H, W), normalised.
            targets: int64 (N,), the class that is explained of each image.

        Raises:
            ConfigError: `attribute` returns anything but a map for each image.
        """
        found = self.attribute(network, images, targets)
        if not isinstance(found, Tensor) or found.ndim != 3 or len(found) != len(images):
            is_tensor = isinstance(found, Tensor)
            got = f"a tensor of shape {tuple(found.shape)}" if is_tensor else type(found).__name__
            remedy = "found.sum(dim=1) adds up channels" if is_tensor else "torch.as_tensor(found) makes one"
            raise ConfigError(
                f"expected {type(self).__name__}.attribute to return a tensor (N, h, w), a map for each of "
                f"{len(images)} images, got {got}; {remedy}"
            )
        return evidence(found.detach(), (images.shape[2], images.shape[3]))


def evidence(attributions: Tensor, size: tuple[int, int]) -> Tensor:
    """The positive part of attributions, (N, h, w), at `size` (H, W), each divided by its largest value."""
    positive = attributions.float().clamp(min=0)[:, None]
    if positive.shape[2:] != size:
        positive = functional.interpolate(positive, size=size, mode="bilinear", align_corners=False)
    largest = positive.amax(dim=(2, 3), keepdim=True)
    return torch.where(largest > 0, positive / largest.clamp(min=torch.finfo(torch.float32).tiny), 0.0)[:, 0]
