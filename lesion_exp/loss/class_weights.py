"""Weights of the classes from their number of training images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from lesion_exp.errors import ConfigError, check_choice

SCHEMES: Final = ("none", "balanced", "inverse", "effective_number")


def class_weights(
    class_counts: Sequence[int], scheme: str = "none", power: float | None = None, beta: float | None = None
) -> Tensor | None:
    """The weight of each class, float32 (C,), such that the mean weight of a training image is 1; None for `none`.

    With n_c images of class c, N images in all and C classes, the weight of c is, up to that common scale,

    - `balanced`: N / (C n_c), so that every class weighs the same in sum (King and Zeng 2001,
      doi:10.1093/oxfordjournals.pan.a004868, as in scikit-learn);
    - `inverse`: (N / n_c)^power; power 1 equals `balanced`, 0.5 (square root) is milder, 0 is no weighting
      (Mahajan et al. 2018, arXiv:1805.00932, for the square root);
    - `effective_number`: (1 - beta) / (1 - beta^n_c); beta 0 is no weighting, beta towards 1 tends to `balanced`
      (Cui et al. 2019, arXiv:1901.05555).

    Args:
        class_counts: training images of each class, in class order, all positive.
        scheme: one of `none`, `balanced`, `inverse`, `effective_number`.
        power: exponent of `inverse`, at least 0; None is 1.
        beta: of `effective_number`, in [0, 1); None is 0.9999.

    Raises:
        ConfigError: the scheme is unknown, a value is out of range, or `power` or `beta` would have no effect.
    """
    check_choice("loss.class_weights", scheme, SCHEMES)
    _require_effect("power", power, "inverse", scheme)
    _require_effect("beta", beta, "effective_number", scheme)
    counts = torch.tensor([float(count) for count in class_counts], dtype=torch.float64)
    match scheme:
        case "balanced":
            raw = 1 / counts
        case "inverse":
            exponent = 1.0 if power is None else power
            if exponent < 0:
                raise ConfigError(f"expected loss.power to be at least 0, got {power}; 0.5 is a usual value")
            raw = (counts.sum() / counts) ** exponent
        case "effective_number":
            raw = _effective_number_weights(counts, 0.9999 if beta is None else beta)
        case _:
            return None
    return (raw * counts.sum() / (raw * counts).sum()).float()


def _effective_number_weights(counts: Tensor, beta: float) -> Tensor:
    if not 0 <= beta < 1:
        raise ConfigError(f"expected loss.beta to be in [0, 1), got {beta}; 0.999 to 0.9999 are usual values")
    if beta == 0:
        return torch.ones_like(counts)
    exponent = counts * torch.log(torch.tensor(beta, dtype=torch.float64))
    return (1 - beta) / -torch.expm1(exponent)  # expm1: no digits are lost where beta is next to 1


def _require_effect(key: str, value: float | None, owner: str, scheme: str) -> None:
    if value is not None and scheme != owner:
        raise ConfigError(
            f"loss.{key}={value} has an effect only with loss.class_weights={owner}, got "
            f"loss.class_weights={scheme}; set loss.{key}=null or loss.class_weights={owner}"
        )
