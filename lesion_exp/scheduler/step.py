"""A learning rate that drops every few epochs."""

from __future__ import annotations

from torch.optim import Optimizer

from lesion_exp.errors import ConfigError
from lesion_exp.scheduler.schedule import Schedule, scaled_by, warmup_factor, warmup_steps


def step(
    optimizer: Optimizer,
    total_steps: float,
    steps_per_epoch: int,
    drop_epochs: int = 10,
    gamma: float = 0.1,
    warmup_epochs: float = 0.0,
) -> Schedule:
    """The learning rate is multiplied by `gamma` every `drop_epochs` epochs, after a linear warm-up.

    Args:
        optimizer: whose groups' learning rates are the peaks.
        total_steps: optimizer steps of the whole training; infinite or not positive where it has no end.
        steps_per_epoch: optimizer steps an epoch.
        drop_epochs: epochs from one drop to the next, counted from the start of training.
        gamma: factor of a drop, in (0, 1].
        warmup_epochs: length of the warm-up in epochs; fractions are allowed.

    Raises:
        ConfigError: a value is out of range.
    """
    if drop_epochs < 1:
        raise ConfigError(f"expected scheduler.drop_epochs to be at least 1 epoch, got {drop_epochs}")
    if not 0 < gamma <= 1:
        raise ConfigError(f"expected scheduler.gamma in (0, 1], got {gamma}; 0.1 divides the learning rate by ten")
    num_warmup_steps = warmup_steps(warmup_epochs, total_steps, steps_per_epoch)
    steps_per_drop = max(drop_epochs * steps_per_epoch, 1)

    def factor(index: int) -> float:
        return float(warmup_factor(index, num_warmup_steps) * gamma ** (index // steps_per_drop))

    return scaled_by(optimizer, factor)
