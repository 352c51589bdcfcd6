"""Lion and LAMB, from the package pytorch_optimizer (extra `optimizers`)."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from torch import Tensor
from torch.optim import Optimizer

from lesion_exp.errors import not_installed

PACKAGE: Final = "pytorch_optimizer"
"""What must be installed; a job looks for it before it reads any data."""


def lion(
    params: Iterable[Tensor] | Iterable[dict[str, Any]],
    lr: float = 1e-4,
    betas: Sequence[float] = (0.9, 0.99),
    weight_decay: float = 0.1,
) -> Optimizer:
    """Lion: the sign of an interpolated momentum, with decoupled weight decay.

    Every weight moves by `lr` a step, so that `lr` is 3 to 10 times smaller, and `weight_decay` as many times larger,
    than AdamW's. Source: Chen et al. 2023, arXiv:2302.06675.

    Args:
        params: parameters, or parameter groups.
        lr: learning rate, the length of a weight's step.
        betas: of the update's interpolation and of the momentum, in [0, 1).
        weight_decay: decoupled; a weight shrinks by `lr * weight_decay` of itself a step.

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
    """LAMB: Adam's direction, a step in proportion to each layer's own norm; made for large batches.

    Source: You et al. 2020, arXiv:1904.00962, algorithm 2 without bias correction.

    Args:
        params: parameters, or parameter groups.
        lr: learning rate, a step's length as a share of the layer's norm (norms above 10 count as 10).
        betas: decay of the means of gradient and squared gradient, in [0, 1).
        weight_decay: share of a weight that is added to Adam's direction before its length is set.
        eps: added to the denominator.

    Raises:
        ConfigError: pytorch_optimizer is not installed.
    """
    # The paper's algorithm: decay inside the direction, and no correction that lengthens the first steps tenfold.
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
