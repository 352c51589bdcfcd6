"""Occlusion: the decrease of the probability of the class if a window of the image is covered."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from lesion_exp.errors import ConfigError
from lesion_exp.explanation.explainer import Explainer
from lesion_exp.explanation.network import ExplainedNetwork

_AT_ONCE: Final = 64
"""The number of images in memory at once."""


class Occlusion(Explainer):
    """The mean decrease of the probability over all positions of a square of the mean colour that cover a pixel.

    Source: Zeiler and Fergus 2014, arXiv:1311.2901; computed by captum.

    Args:
        window: side of the square as a share of the image's side, above 0 and below 1.
        stride: distance between positions as a share of the window, above 0 and at most 1.

    Raises:
        ConfigError: a share is out of range.
    """

    def __init__(self, window: float = 0.2, stride: float = 0.5) -> None:
        if not 0 < window < 1:
            raise ConfigError(f"expected occlusion.window above 0 and below 1, got {window}; it is a share of the side")
        if not 0 < stride <= 1:
            raise ConfigError(f"expected occlusion.stride above 0 up to 1, got {stride}; it is a share of the window")
        self.window = window
        self.stride = stride

    @property
    def passes(self) -> int:
        """A forward pass for each position of the window."""
        return (round((1 - self.window) / (self.window * self.stride)) + 1) ** 2 + 1

    def attribute(self, network: ExplainedNetwork, images: Tensor, targets: Tensor) -> Tensor:
        """Returns the decrease of the probability, float32 (N, H, W)."""
        from captum.attr import Occlusion as CaptumOcclusion

        channels, side = images.shape[1], images.shape[2]
        window = max(round(self.window * side), 1)
        step = max(round(self.stride * window), 1)
        with torch.no_grad():
            falls: Tensor = CaptumOcclusion(network.probabilities).attribute(
                images,
                sliding_window_shapes=(channels, window, window),
                strides=(channels, step, step),
                baselines=0.0,
                target=targets,
                perturbations_per_eval=max(_AT_ONCE // len(images), 1),
            )
        return falls[:, 0]  # all channels are covered together and have the same value
