"""Training images mixed with one another: mixup and cutmix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lesion_exp.errors import ConfigError


@dataclass(frozen=True)
class MixedBatch:
    """A batch after mixing; its loss is `weight * L(logits, y) + (1 - weight) * L(logits, y[permutation])`."""

    images: list[Tensor]
    """The tensors that came in, each (N, C, H, W), in their order."""
    permutation: Tensor
    """int64 (N,), on the images' device: which sample each was mixed with."""
    weight: float
    """Share of each sample in its mixture, 0 to 1, the same for the whole batch."""


class Mix:
    """Mixes the samples of a batch, with one weight a batch.

    mixup (Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018): the pixels of two images are averaged
    with weight w ~ Beta(alpha, alpha). cutmix (Yun et al., "CutMix", ICCV 2019): a box of the other image, of area
    1 - w and anywhere, is pasted in; w is then the share that is left of the image.

    Args:
        mixup_alpha: parameter of the Beta distribution; 0 = no mixup. Usual: 0.8.
        cutmix_alpha: parameter of the Beta distribution; 0 = no cutmix. Usual: 1.
        probability: of a batch being mixed.
        switch_probability: of cutmix rather than mixup, where both are on.

    Raises:
        ConfigError: a negative alpha or a value that is no probability.
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
                    f"expected augmentation.mix.{name} from 0 (off) on, got {value}; the usual is 0.8 or 1"
                )
        for name, value in (("probability", probability), ("switch_probability", switch_probability)):
            if not 0 <= value <= 1:
                raise ConfigError(f"expected augmentation.mix.{name} from 0 to 1, got {value}")
        self.mixup_alpha = float(mixup_alpha)
        self.cutmix_alpha = float(cutmix_alpha)
        self.probability = float(probability)
        self.switch_probability = float(switch_probability)

    def __repr__(self) -> str:
        names = ("mixup_alpha", "cutmix_alpha", "probability", "switch_probability")
        return f"Mix({', '.join(f'{name}={getattr(self, name):g}' for name in names)})"

    @property
    def is_active(self) -> bool:
        """Whether any batch is ever mixed."""
        return self.probability > 0 and (self.mixup_alpha > 0 or self.cutmix_alpha > 0)

    def __call__(self, images: Sequence[Tensor], generator: torch.Generator) -> MixedBatch:
        """`images`, tensors (N, C, H, W) that belong together (two views of the same cases), mixed alike.

        Everything random comes from `generator`, which lives on the CPU. The tensors are floating point, normalised or
        not; they are not changed in place.
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
    """A box around `middle` (shares of height and width) with sides of sqrt(1 - weight), cut at the borders."""
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
    """A draw from Beta(alpha, alpha).

    As the ratio of two gamma variables, in logarithms: for a small alpha the variables themselves underflow to 0 / 0.
    """
    logs = [_log_gamma_draw(alpha, generator) for _ in range(2)]
    return 1 / (1 + math.exp(min(logs[1] - logs[0], 700.0)))


def _log_gamma_draw(alpha: float, generator: torch.Generator) -> float:
    """The logarithm of a draw from Gamma(alpha, 1): Gamma(alpha + 1) times U^(1/alpha)."""
    shape = torch.tensor([alpha + 1], dtype=torch.float64)
    uniform = float(torch.rand(1, generator=generator, dtype=torch.float64))
    drawn = float(torch._standard_gamma(shape, generator=generator))
    return math.log(drawn) + math.log(max(uniform, 1e-300)) / alpha
