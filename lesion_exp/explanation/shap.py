"""SHAP: the mean contribution of each region to the probability of the class. Needs the extra `shap`."""

from __future__ import annotations

import importlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lesion_exp.errors import ConfigError, not_installed
from lesion_exp.explanation.explainer import Explainer
from lesion_exp.explanation.network import ExplainedNetwork

PACKAGE: Final = "shap"
"""The required package; `explain` checks that it is installed before it reads any data."""
_AT_ONCE: Final = 64


class Shap(Explainer):
    """Owen values: Shapley values over a hierarchy of rectangles, where hidden rectangles have the mean colour.

    Source: Lundberg and Lee 2017, arXiv:1705.07874. The hierarchy is that of the partition explainer in the package
    shap, which repeatedly halves the rectangles whose probabilities differ most.

    Args:
        evaluations: number of images with some hidden rectangles, at least 20; more give smaller rectangles.

    Raises:
        ConfigError: the number is too small.
    """

    def __init__(self, evaluations: int = 500) -> None:
        if evaluations < 20:
            raise ConfigError(f"expected shap.evaluations of at least 20, got {evaluations}; 500 is a usual number")
        self.evaluations = evaluations

    @property
    def passes(self) -> int:
        """A forward pass for each evaluation."""
        return self.evaluations

    def attribute(self, network: ExplainedNetwork, images: Tensor, targets: Tensor) -> Tensor:
        """Returns the Owen value of each pixel, summed over the channels, float32 (N, H, W).

        Raises:
            ConfigError: shap is not installed.
        """
        try:
            shap = importlib.import_module(PACKAGE)
        except ModuleNotFoundError as error:
            raise not_installed(PACKAGE, "method=shap") from error
        cases = enumerate(zip(images, targets.tolist(), strict=True))
        maps = [self._explain(shap, network.for_image(row), image, target) for row, (image, target) in cases]
        return torch.stack(maps).to(images.device)

    def _explain(self, shap: Any, network: ExplainedNetwork, image: Tensor, target: int) -> Tensor:
        pixels = image.detach().cpu().numpy().transpose(1, 2, 0)

        def probability(shown: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
            batch = torch.from_numpy(np.ascontiguousarray(shown.transpose(0, 3, 1, 2))).to(image.device, image.dtype)
            with torch.no_grad():
                return np.asarray(network.probabilities(batch)[:, [target]].cpu().double().numpy())

        masker = shap.maskers.Image(np.zeros_like(pixels))
        explainer = shap.PartitionExplainer(probability, masker)
        found = explainer(pixels[None], max_evals=self.evaluations, batch_size=_AT_ONCE, silent=True)
        return torch.from_numpy(np.asarray(found.values[0, ..., 0].sum(axis=2), dtype=np.float32))
