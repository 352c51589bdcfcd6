"""The base class of all explainers, which compute saliency maps from a network, images and classes."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from lesion_exp.errors import ConfigError
from lesion_exp.explanation.network import ExplainedNetwork


class Explainer(ABC):
    """Computes saliency maps of images for a class."""

    @property
    @abstractmethod
    def passes(self) -> int:
        """The approximate number of forward passes for an image; a backward pass counts as two."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the maps computed so far, which every output shows; sentences without full stops."""
        return ()

    @abstractmethod
    def attribute(self, network: ExplainedNetwork, images: Tensor, targets: Tensor) -> Tensor:
        """Returns attributions, float32 (N, h, w), on any scale: positive for the class, negative against it."""

    def __call__(self, network: ExplainedNetwork, images: Tensor, targets: Tensor) -> Tensor:
        """Returns the saliency maps for the classes `targets`, float32 (N, H, W), from 0 to 1.

        The maps are the positive attributions, divided by the largest of each image. A map without positive
        attributions is 0 everywhere.

        Args:
            network: the network to explain.
            images: float32 (N, C, H, W), normalised.
            targets: int64 (N,), the class to explain for each image.

        Raises:
            ConfigError: `attribute` does not return a map for each image.
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
        return normalised(found.detach(), (images.shape[2], images.shape[3]))


def normalised(attributions: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns the positive part of attributions, (N, h, w), resized to `size` (H, W), with a maximum of 1 for each
    image."""
    positive = attributions.float().clamp(min=0)[:, None]
    if positive.shape[2:] != size:
        positive = functional.interpolate(positive, size=size, mode="bilinear", align_corners=False)
    largest = positive.amax(dim=(2, 3), keepdim=True)
    return torch.where(largest > 0, positive / largest.clamp(min=torch.finfo(torch.float32).tiny), 0.0)[:, 0]
