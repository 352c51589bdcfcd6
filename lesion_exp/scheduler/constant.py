"""A constant learning rate after a warm-up."""

from __future__ import annotations

from torch.optim import Optimizer

from lesion_exp.scheduler.schedule import Schedule, scaled_by, warmup_factor, warmup_steps


def constant(optimizer: Optimizer, total_steps: float, steps_per_epoch: int, warmup_epochs: float = 0.0) -> Schedule:
    """Returns a schedule whose learning rate rises linearly for `warmup_epochs` and then remains constant.

    Args:
        optimizer: its groups have the final learning rates.
        total_steps: optimizer steps of the whole training; infinite or not positive for a training without an end.
        steps_per_epoch: optimizer steps in an epoch.
        warmup_epochs: length of the warm-up in epochs; fractions are allowed.

    Raises:
        ConfigError: `warmup_epochs` is negative.
    """
    num_warmup_steps = warmup_steps(warmup_epochs, total_steps, steps_per_epoch)
    return scaled_by(optimizer, lambda step: warmup_factor(step, num_warmup_steps))
