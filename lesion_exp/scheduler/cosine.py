"""Linear warm-up, then half a cosine."""

from __future__ import annotations

import math

from torch.optim import Optimizer

from lesion_exp.errors import ConfigError
from lesion_exp.scheduler.schedule import Schedule, require_known_length, scaled_by, warmup_factor, warmup_steps


def cosine(
    optimizer: Optimizer,
    total_steps: float,
    steps_per_epoch: int,
    warmup_epochs: float = 1.0,
    min_lr_ratio: float = 0.01,
) -> Schedule:
    """Returns a schedule whose learning rate rises linearly and then falls along half a cosine.

    After a warm-up of W of T steps, the learning rate of step t is lr * (r + (1 - r) (1 + cos(pi (t - W) / (T - W))) /
    2), where r is `min_lr_ratio`. Source: Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts.

    Args:
        optimizer: its groups have the peak learning rates.
        total_steps: optimizer steps of the whole training.
        steps_per_epoch: optimizer steps in an epoch.
        warmup_epochs: length of the warm-up in epochs; fractions are allowed.
        min_lr_ratio: final learning rate as a share of the peak, in [0, 1].

    Raises:
        ConfigError: a value is out of range, or the training has no end.
    """
    require_known_length(total_steps, "cosine")
    if not 0 <= min_lr_ratio <= 1:
        raise ConfigError(
            f"expected scheduler.min_lr_ratio to be a share of the peak learning rate in [0, 1], got {min_lr_ratio}; "
            f"0.01 is the default"
        )
    num_warmup_steps = warmup_steps(warmup_epochs, total_steps, steps_per_epoch)

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return warmup_factor(step, num_warmup_steps)
        progress = min((step - num_warmup_steps) / max(total_steps - num_warmup_steps, 1), 1.0)
        return min_lr_ratio + (1 - min_lr_ratio) * (1 + math.cos(math.pi * progress)) / 2

    return scaled_by(optimizer, factor)
