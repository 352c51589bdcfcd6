"""Lion and LAMB, from the package pytorch_optimizer (extra `optimizers`)."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from torch import Tensor
from torch.optim import Optimizer

from lesion_exp.errors import not_installed

PACKAGE: Final = "pytorch_optimizer"
"""The required package; a job checks that it is installed before it reads any data."""


def lion(
    params: Iterable[Tensor] | Iterable[dict[str, Any]],
    lr: float = 1e-4,
    betas: Sequence[float] = (0.9, 0.99),
    weight_decay: float = 0.1,
) -> Optimizer:
    """Returns Lion: updates by the sign of an interpolated momentum, with decoupled weight decay.

    Every weight changes by `lr` in each step, so `lr` should be 3 to 10 times smaller than that of AdamW, and
    `weight_decay` larger by the same factor. Source: Chen et al. 2023, arXiv:2302.06675.

    Args:
        params: parameters, or parameter groups.
        lr: learning rate, the change of each weight in a step.
        betas: coefficients of the interpolation for the update and of the momentum, in [0, 1).
        weight_decay: decoupled; a step multiplies each weight by 1 - `lr * weight_decay`.

    Raises:
        ConfigError: pytorch_optimizer is not installed.
    """
    return _build("Lion", params, lr=lr, betas=tuple(betas), weight_decay=weight_decay)


def lamb(
    params: Iterable[Tensor] | Iterable[dict[str, Any]],
    lr: float = 5e-3,
    betas: Sequence[float] = (0.9, 0.999),
    weight_decay: float = 0.02,
    eps: float = 1e-6,
) -> Optimizer:
    """Returns LAMB, for large batches: the direction of Adam, with steps in proportion to the norm of each layer.

    Source: You et al. 2020, arXiv:1904.00962, algorithm 2 without bias correction.

    Args:
        params: parameters, or parameter groups.
        lr: learning rate, the length of a step as a share of the layer's norm (norms above 10 count as 10).
        betas: decay of the means of gradient and squared gradient, in [0, 1).
        weight_decay: share of a weight that is added to the direction of Adam before its normalisation.
        eps: added to the denominator.

    Raises:
        ConfigError: pytorch_optimizer is not installed.
    """
    # as in the paper: decay before normalisation, and no bias correction, which makes the first steps ten times longer
    as_published = {"weight_decouple": False, "adam_debias": True}
    return _build("Lamb", params, lr=lr, betas=tuple(betas), weight_decay=weight_decay, eps=eps, **as_published)


def _build(name: str, params: Iterable[Tensor] | Iterable[dict[str, Any]], **settings: Any) -> Optimizer:
    try:
        module = importlib.import_module(PACKAGE)
    except ModuleNotFoundError as error:
        raise not_installed(PACKAGE, f"optimizer={name.lower()}") from error
    optimizer = getattr(module, name)(params, **settings)
    assert isinstance(optimizer, Optimizer)
    return optimizer
