"""Integrated gradients: the contribution of each pixel to the logit on the path from an image of one colour."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from lesion_exp.errors import ConfigError
from lesion_exp.explanation.explainer import Explainer
from lesion_exp.explanation.network import ExplainedNetwork

_AT_ONCE: Final = 64
"""The number of images in memory at once."""
_FINER: Final = 3
"""Factor of the number of steps. The midpoints of three times as many steps include the old ones, so that no gradient
is computed twice."""


class IntegratedGradients(Explainer):
    """(x - x0) times the mean gradient of the logit between x0 and x, summed over the channels; x0 is the mean colour.

    The sum over an image is the difference of the two logits. With the mean over the gradients at the midpoints of a
    number of steps it is an approximation, because the gradient of a network is not continuous. So the number of steps
    is tripled for each image until the error of the sum is at most `tolerance`. `notes` reports the maps whose error is
    still larger after `max_steps`. Source: Sundararajan et al. 2017, arXiv:1703.01365.

    Args:
        steps: initial number of steps of the integral, at least 2.
        tolerance: largest error of the sum, as a share of the difference of the logits, above 0.
        max_steps: largest number of steps of the integral, at least `steps`.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(self, steps: int = 32, tolerance: float = 0.01, max_steps: int = 288) -> None:
        if steps < 2:
            raise ConfigError(f"expected integrated_gradients.steps of at least 2, got {steps}; 32 is a usual number")
        if not tolerance > 0:
            raise ConfigError(f"expected integrated_gradients.tolerance above 0, got {tolerance}; 0.01 is 1%")
        if max_steps < steps:
            raise ConfigError(
                f"expected integrated_gradients.max_steps of at least steps={steps}, got {max_steps}; "
                f"{steps * _FINER**2} allows for two refinements"
            )
        self.steps = steps
        self.tolerance = tolerance
        self.max_steps = max_steps
        self._errors: list[float] = []

    @property
    def passes(self) -> int:
        """A forward pass and a backward pass for each step, assuming that the number of steps is tripled once."""
        return 3 * (self.steps * _FINER if self.steps * _FINER <= self.max_steps else self.steps)

    @property
    def notes(self) -> tuple[str, ...]:
        """The errors of the sums of all maps so far."""
        if not self._errors:
            return ()
        within = sum(error <= self.tolerance for error in self._errors)
        return (
            f"the sums of {within:,} of {len(self._errors):,} maps are the difference of the logits within "
            f"{self.tolerance:.0%}; the largest error is {max(self._errors):.1%}",
        )

    def attribute(self, network: ExplainedNetwork, images: Tensor, targets: Tensor) -> Tensor:
        """Returns the contribution of each pixel to the logit, float32 (N, H, W)."""
        rows = [
            self._of_image(network.for_image(row), images[row : row + 1], targets[row : row + 1])
            for row in range(len(images))
        ]
        return torch.cat(rows)

    def _of_image(self, network: ExplainedNetwork, image: Tensor, target: Tensor) -> Tensor:
        """Returns the contributions of the pixels of one image, (1, H, W), with as few steps as the tolerance
        allows.
        """
        with torch.no_grad():
            ends = network(torch.cat([image, torch.zeros_like(image)]))[:, target].double()
        difference = float(ends[0] - ends[1])
        num_steps = self.steps
        total = _summed_gradients(network, image, target, range(num_steps), num_steps)
        while True:
            parts = (image * total / num_steps).sum(dim=1)
            distance = abs(float(parts.double().sum()) - difference)
            error = distance / abs(difference) if difference else float(distance > 0)
            if error <= self.tolerance or num_steps * _FINER > self.max_steps:
                self._errors.append(error)
                return parts
            num_steps *= _FINER
            between = [place for place in range(num_steps) if place % _FINER != 1]
            total = total + _summed_gradients(network, image, target, between, num_steps)


def _summed_gradients(
    network: ExplainedNetwork, image: Tensor, target: Tensor, places: range | list[int], num_steps: int
) -> Tensor:
    """Returns the sum of the gradients of the logit at the midpoints of the steps `places`, (1, C, H, W)."""
    total = torch.zeros_like(image)
    shares = (torch.tensor(list(places), dtype=image.dtype, device=image.device) + 0.5) / num_steps
    for some in torch.split(shares, _AT_ONCE):
        points = (some[:, None, None, None] * image).requires_grad_()
        with torch.enable_grad():
            logits = network(points)[:, target].sum()
            (gradients,) = torch.autograd.grad(logits, points)
        total += gradients.sum(dim=0, keepdim=True)
    return total
