"""A learning rate that falls every few epochs."""

from __future__ import annotations

from torch.optim import Optimizer

from lesion_exp.scheduler.schedule import Schedule, scaled_by, warmup_factor, warmup_steps
from lesion_exp.value_range import check_range


def step(
    optimizer: Optimizer,
    total_steps: float,
    steps_per_epoch: int,
    drop_epochs: int = 10,
    gamma: float = 0.1,
    warmup_epochs: float = 0.0,
) -> Schedule:
    """Returns a schedule that multiplies the learning rate by `gamma` every `drop_epochs` epochs, after a warm-up.

    Args:
        optimizer: its groups have the peak learning rates.
        total_steps: optimizer steps of the whole training; infinite or not positive for a training without an end.
        steps_per_epoch: optimizer steps in an epoch.
        drop_epochs: number of epochs between two reductions, counted from the start of training.
        gamma: factor of the learning rate at each reduction, in (0, 1].
        warmup_epochs: length of the warm-up in epochs; fractions are allowed.

    Raises:
        ConfigError: a value is out of range.
    """
    check_range("scheduler.drop_epochs", drop_epochs)
    check_range("scheduler.gamma", gamma)
    num_warmup_steps = warmup_steps(warmup_epochs, total_steps, steps_per_epoch)
    steps_per_drop = max(drop_epochs * steps_per_epoch, 1)

    def factor(index: int) -> float:
        return float(warmup_factor(index, num_warmup_steps) * gamma ** (index // steps_per_drop))

    return scaled_by(optimizer, factor)
