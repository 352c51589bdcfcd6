"""The learning rate as it is, after a warm-up."""

from __future__ import annotations

from torch.optim import Optimizer

from lesion_exp.scheduler.schedule import Schedule, scaled_by, warmup_factor, warmup_steps


def constant(optimizer: Optimizer, total_steps: float, steps_per_epoch: int, warmup_epochs: float = 0.0) -> Schedule:
    """The learning rate rises linearly for `warmup_epochs` and stays.

    Args:
        optimizer: whose groups' learning rates are kept.
        total_steps: optimizer steps of the whole training; infinite or not positive where it has no end.
        steps_per_epoch: optimizer steps an epoch.
        warmup_epochs: length of the warm-up in epochs; fractions are allowed.

    Raises:
        ConfigError: `warmup_epochs` is negative.
    """
    num_warmup_steps = warmup_steps(warmup_epochs, total_steps, steps_per_epoch)
    return scaled_by(optimizer, lambda step: warmup_factor(step, num_warmup_steps))
