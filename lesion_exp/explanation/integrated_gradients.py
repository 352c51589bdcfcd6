"""Integrated gradients: what each pixel adds to the logit on the way from an image of one colour."""

from __future__ import annotations

from typing import Final

from torch import Tensor

from lesion_exp.errors import ConfigError
from lesion_exp.explanation.explainer import Explainer
from lesion_exp.explanation.network import ExplainedNetwork

_AT_ONCE: Final = 64
"""Images in memory at a time."""


class IntegratedGradients(Explainer):
    """(x - x0) times the mean gradient of the logit between x0 and x, summed over the channels; x0 is the mean colour.

    Summed over an image it is the difference of the two logits. Source: Sundararajan et al. 2017, arXiv:1703.01365;
    computed by captum.

    Args:
        steps: points of the integral (Gauss-Legendre), at least 2.

    Raises:
        ConfigError: fewer steps.
    """

    def __init__(self, steps: int = 32) -> None:
        if steps < 2:
            raise ConfigError(f"expected integrated_gradients.steps of at least 2, got {steps}; 32 is a usual number")
        self.steps = steps

    @property
    def passes(self) -> int:
        """A forward pass and a backward pass a step."""
        return 3 * self.steps

    def attribute(self, network: ExplainedNetwork, images: Tensor, targets: Tensor) -> Tensor:
        """The pixels' parts in the logit, float32 (N, H, W)."""
        from captum.attr import IntegratedGradients as CaptumIntegratedGradients

        method = CaptumIntegratedGradients(network, multiply_by_inputs=True)
        parts: Tensor = method.attribute(
            images, baselines=0.0, target=targets, n_steps=self.steps, internal_batch_size=max(_AT_ONCE, len(images))
        )
        return parts.sum(dim=1)
