"""LIME: a linear model of the probability of the class from the superpixels that are shown. Needs the extra `lime`."""

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

PACKAGE: Final = "lime"
"""The required package; `explain` checks that it is installed before it reads any data."""
KERNEL_WIDTH: Final = 0.25
"""Width in the weight sqrt(exp(-d^2 / width^2)) of a sample at the cosine distance d from the image, lime's default."""
_AT_ONCE: Final = 64


class Lime(Explainer):
    """The weights of a ridge regression of the probability on which superpixels are shown.

    Hidden superpixels have the mean colour. Source: Ribeiro et al. 2016, arXiv:1602.04938, fitted by the package lime.
    Superpixels are those of SLIC (Achanta et al. 2012, doi:10.1109/TPAMI.2012.120) in scikit-image, which lime
    requires.

    Args:
        superpixels: approximate number of superpixels, at least 4.
        samples: number of images with some hidden superpixels, at least 10.
        seed: seed of the choice of hidden superpixels.

    Raises:
        ConfigError: a number is too small.
    """

    def __init__(self, superpixels: int = 60, samples: int = 500, seed: int = 0) -> None:
        if superpixels < 4 or samples < 10:
            raise ConfigError(
                f"expected lime.superpixels of at least 4 and lime.samples of at least 10, got {superpixels} and "
                f"{samples}; 60 and 500 are usual numbers"
            )
        self.superpixels = superpixels
        self.samples = samples
        self.seed = seed

    @property
    def passes(self) -> int:
        """A forward pass for each sample."""
        return self.samples

    def attribute(self, network: ExplainedNetwork, images: Tensor, targets: Tensor) -> Tensor:
        """Returns the weight of the superpixel of each pixel, float32 (N, H, W).

        Raises:
            ConfigError: lime is not installed.
        """
        try:
            local_model = importlib.import_module("lime.lime_base").LimeBase
        except ModuleNotFoundError as error:
            raise not_installed(PACKAGE, "method=lime") from error
        cases = enumerate(zip(images, targets.tolist(), strict=True))
        maps = [self._explain(local_model, network.for_image(row), image, target) for row, (image, target) in cases]
        return torch.stack(maps).to(images.device)

    def _explain(self, local_model: Any, network: ExplainedNetwork, image: Tensor, target: int) -> Tensor:
        segments = superpixels(image, self.superpixels)
        rng = np.random.default_rng(self.seed)
        shown = rng.integers(0, 2, (self.samples, int(segments.max()) + 1))
        shown[0] = 1  # the whole image, from which distances are measured
        probs = _probabilities(network, image, torch.from_numpy(segments), torch.from_numpy(shown))
        distances = 1 - np.sqrt(shown.mean(axis=1))  # cosine distance between vectors of zeros and ones
        model = local_model(lambda d: np.sqrt(np.exp(-(d**2) / KERNEL_WIDTH**2)), random_state=self.seed)
        _, weights, _, _ = model.explain_instance_with_data(
            shown, probs, distances, target, shown.shape[1], feature_selection="none"
        )
        by_segment = np.zeros(shown.shape[1], dtype=np.float32)
        for segment, weight in weights:
            by_segment[segment] = weight
        return torch.from_numpy(by_segment[segments])


def superpixels(image: Tensor, count: int) -> npt.NDArray[np.int64]:
    """Returns the superpixel of each pixel, int64 (H, W), numbered from 0.

    Args:
        image: float32 (C, H, W), normalised.
        count: approximate number of superpixels.
    """
    slic = importlib.import_module("skimage.segmentation").slic
    colours = image[:3].detach().cpu().numpy().transpose(1, 2, 0).astype(np.float64)
    low, high = colours.min(), colours.max()
    scaled = (colours - low) / max(high - low, 1e-9)
    return np.asarray(slic(scaled, n_segments=count, compactness=20, sigma=1, start_label=0), dtype=np.int64)


def _probabilities(
    network: ExplainedNetwork, image: Tensor, segments: Tensor, shown: Tensor
) -> npt.NDArray[np.float64]:
    """Returns the class probabilities, (samples, classes), of images without the superpixels that have a 0 in
    `shown`.
    """
    blocks = []
    with torch.no_grad():
        for block in torch.split(shown, _AT_ONCE):
            keep = block[:, segments].to(image.device, image.dtype)[:, None]
            blocks.append(network.probabilities(keep * image[None]).cpu().double())
    return np.asarray(torch.cat(blocks).numpy(), dtype=np.float64)
