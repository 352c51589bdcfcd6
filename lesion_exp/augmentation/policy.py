"""An automatic augmentation policy: random operations from a list, with random magnitudes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import cv2

from lesion_exp.augmentation.library import Transform, albumentations
from lesion_exp.errors import ConfigError, nearest

_BORDER = {"border_mode": cv2.BORDER_REFLECT_101}


def _around_one(extent: float) -> tuple[float, float]:
    return max(1 - extent, 0.05), 1 + extent


def _jitter(channel: str, extent: float) -> Transform:
    neutral = {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": (0, 0)}
    moved = (-min(extent, 0.5), min(extent, 0.5)) if channel == "hue" else _around_one(extent)
    return albumentations.ColorJitter(**{**neutral, channel: moved}, p=1)


def _unit(value: float) -> float:
    return min(value, 1.0)


OPERATIONS: Final[Mapping[str, Callable[[float], Transform]]] = MappingProxyType(
    {
        "identity": lambda s: albumentations.NoOp(p=1),
        "rotate": lambda s: albumentations.Affine(rotate=(-180 * _unit(s), 180 * _unit(s)), **_BORDER, p=1),
        "shear_x": lambda s: albumentations.Affine(shear={"x": (-15 * s, 15 * s), "y": (0, 0)}, **_BORDER, p=1),
        "shear_y": lambda s: albumentations.Affine(shear={"x": (0, 0), "y": (-15 * s, 15 * s)}, **_BORDER, p=1),
        "translate_x": lambda s: albumentations.Affine(
            translate_percent={"x": (-0.15 * s, 0.15 * s), "y": (0, 0)}, **_BORDER, p=1
        ),
        "translate_y": lambda s: albumentations.Affine(
            translate_percent={"x": (0, 0), "y": (-0.15 * s, 0.15 * s)}, **_BORDER, p=1
        ),
        "zoom": lambda s: albumentations.Affine(scale=_around_one(0.25 * s), keep_ratio=True, **_BORDER, p=1),
        "brightness": lambda s: _jitter("brightness", 0.3 * s),
        "contrast": lambda s: _jitter("contrast", 0.35 * s),
        "saturation": lambda s: _jitter("saturation", 0.4 * s),
        "hue": lambda s: _jitter("hue", 0.04 * s),
        "gamma": lambda s: albumentations.RandomGamma(
            gamma_limit=tuple(100 * bound for bound in _around_one(0.35 * s)), p=1
        ),
        "sharpness": lambda s: albumentations.Sharpen(alpha=(0, _unit(0.4 * s)), lightness=(1, 1), p=1),
        "blur": lambda s: albumentations.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 0.1 + 1.2 * s), p=1),
        "posterize": lambda s: albumentations.Posterize(num_bits=(max(round(8 - 3 * s), 1), 8), p=1),
        "auto_contrast": lambda s: albumentations.AutoContrast(p=1),
        "equalize": lambda s: albumentations.Equalize(p=1),
        "solarize": lambda s: albumentations.Solarize(threshold_range=(max(1 - 0.3 * s, 0), 1), p=1),
    }
)
"""Name -> a function from the strength to the operation. Magnitudes are drawn uniformly from the ranges given here."""


class RandomPolicy(albumentations.SomeOf):  # type: ignore[misc]
    """Applies `num_operations` of `operations`, drawn with replacement, each with a uniformly drawn magnitude.

    With one operation this is TrivialAugment (Müller and Hutter, "TrivialAugment: tuning-free yet state-of-the-art data
    augmentation", ICCV 2021). With more it is similar to RandAugment (Cubuk et al., CVPR workshops 2020), whose
    magnitude is fixed. The ranges of colour are narrower than theirs, because colour is informative about the
    diagnosis, and the range of rotation is wider.

    Args:
        operations: names in `OPERATIONS`.
        num_operations: number of operations per sample.
        strength: factor on every range; 1: as in `OPERATIONS`.
        p: probability that a sample is changed at all.

    Raises:
        ConfigError: an operation is unknown, there is none, or `strength` is out of range.
    """

    def __init__(
        self, operations: Sequence[str], num_operations: int = 1, strength: float = 1.0, p: float = 1.0
    ) -> None:
        if num_operations < 1 or not operations:
            raise ConfigError(
                f"expected a policy of at least one operation per sample, got num_operations={num_operations} out of "
                f"{len(operations)}; set the node to null to switch the policy off"
            )
        if not 0 < strength <= 3:
            raise ConfigError(f"expected a policy's strength above 0 and up to 3, got {strength}; 1 is the usual one")
        for name in operations:
            if name not in OPERATIONS:
                raise ConfigError(f"expected operations of the policy, got {name!r}; {nearest(name, OPERATIONS)}")
        self.names = tuple(operations)
        self.strength = strength
        super().__init__([OPERATIONS[name](strength) for name in operations], n=num_operations, replace=True, p=p)

    @property
    def description(self) -> str:
        """A description of the policy on one line, for logs."""
        return f"RandomPolicy({self.n} of {', '.join(self.names)}, strength={self.strength:g}, p={self.p:g})"
