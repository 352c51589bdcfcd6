"""Mixes the images of a training batch: mixup and cutmix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lesion_exp.errors import ConfigError


@dataclass(frozen=True)
class MixedBatch:
    """A mixed batch. Its loss is `weight * L(logits, y) + (1 - weight) * L(logits, y[permutation])`."""

    images: list[Tensor]
    """The mixed tensors, each (N, C, H, W), in the order of the input."""
    permutation: Tensor
    """int64 (N,), on the images' device: the sample with which each sample was mixed."""
    weight: float
    """Share of each sample in its mixture, 0 to 1, the same for the whole batch."""


class Mix:
    """Mixes the samples of a batch, with one weight for the whole batch.

    mixup (Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018) averages the pixels of two images with
    a weight w ~ Beta(alpha, alpha). cutmix (Yun et al., "CutMix", ICCV 2019) pastes a box of the other image, with the
    area 1 - w, at a random position; the weight is then the share of the image that is left.

    Args:
        mixup_alpha: parameter of the Beta distribution; 0: no mixup. 0.8 is usual.
        cutmix_alpha: parameter of the Beta distribution; 0: no cutmix. 1 is usual.
        probability: probability that a batch is mixed.
        switch_probability: probability of cutmix instead of mixup, if both are on.

    Raises:
        ConfigError: an alpha is negative, or a probability is outside 0 to 1.
    """

    def __init__(
        self,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        probability: float = 1.0,
        switch_probability: float = 0.5,
    ) -> None:
        for name, value in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
            if not (0 <= value < math.inf):
                raise ConfigError(
                    f"expected augmentation.mix.{name} of at least 0 (off), got {value}; 0.8 or 1 is usual"
                )
        for name, value in (("probability", probability), ("switch_probability", switch_probability)):
            if not 0 <= value <= 1:
                raise ConfigError(f"expected augmentation.mix.{name} from 0 to 1, got {value}; it is a probability")
        self.mixup_alpha = float(mixup_alpha)
        self.cutmix_alpha = float(cutmix_alpha)
        self.probability = float(probability)
        self.switch_probability = float(switch_probability)

    def __repr__(self) -> str:
        names = ("mixup_alpha", "cutmix_alpha", "probability", "switch_probability")
        return f"Mix({', '.join(f'{name}={getattr(self, name):g}' for name in names)})"

    @property
    def is_active(self) -> bool:
        """Whether batches are mixed at all."""
        return self.probability > 0 and (self.mixup_alpha > 0 or self.cutmix_alpha > 0)

    def __call__(self, images: Sequence[Tensor], generator: torch.Generator) -> MixedBatch:
        """Mixes one or more tensors of the same samples in the same way.

        Args:
            images: floating-point tensors (N, C, H, W), such as two views of the same cases. They are not changed.
            generator: source of every random choice, on the CPU.
        """
        assert images, "a batch without images"
        assert all(tensor.is_floating_point() for tensor in images), "mixing needs floating point"
        count = len(images[0])
        permutation = torch.randperm(count, generator=generator).to(images[0].device)
        mixed, switch = torch.rand(2, generator=generator).tolist()
        if not self.is_active or mixed >= self.probability:
            same = torch.arange(count, device=images[0].device)
            return MixedBatch(list(images), same, 1.0)
        use_cutmix = self.cutmix_alpha > 0 and (self.mixup_alpha == 0 or switch < self.switch_probability)
        weight = _beta(self.cutmix_alpha if use_cutmix else self.mixup_alpha, generator)
        if not use_cutmix:
            blended = [weight * tensor + (1 - weight) * tensor[permutation] for tensor in images]
            return MixedBatch(blended, permutation, weight)
        return _cutmix(images, permutation, weight, torch.rand(2, generator=generator).tolist())


def _cutmix(images: Sequence[Tensor], permutation: Tensor, weight: float, middle: Sequence[float]) -> MixedBatch:
    """Pastes a box around `middle`, with sides of sqrt(1 - weight), both as shares of the image's sides."""
    side = math.sqrt(1 - weight)
    pasted, left = [], []
    for tensor in images:
        height, width = tensor.shape[-2:]
        top, bottom = _span(middle[0], side, height)
        start, end = _span(middle[1], side, width)
        copy = tensor.clone()
        copy[..., top:bottom, start:end] = tensor[permutation][..., top:bottom, start:end]
        pasted.append(copy)
        left.append(1 - (bottom - top) * (end - start) / (height * width))
    return MixedBatch(pasted, permutation, sum(left) / len(left))


def _span(middle: float, share: float, length: int) -> tuple[int, int]:
    centre, half = middle * length, share * length / 2
    return max(round(centre - half), 0), min(round(centre + half), length)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """Draws from Beta(alpha, alpha), as a ratio of two gamma variables.

    The ratio is computed from logarithms, because the variables underflow to 0 / 0 for a small alpha.
    """
    logs = [_log_gamma_draw(alpha, generator) for _ in range(2)]
    return 1 / (1 + math.exp(min(logs[1] - logs[0], 700.0)))


def _log_gamma_draw(alpha: float, generator: torch.Generator) -> float:
    """Draws the logarithm of a variable from Gamma(alpha, 1), which is Gamma(alpha + 1) times U^(1/alpha)."""
    shape = torch.tensor([alpha + 1], dtype=torch.float64)
    uniform = float(torch.rand(1, generator=generator, dtype=torch.float64))
    drawn = float(torch._standard_gamma(shape, generator=generator))
    return math.log(drawn) + math.log(max(uniform, 1e-300)) / alpha
