"""One cycle of the learning rate, and the reverse cycle of the momentum."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from lesion_exp.errors import ConfigError
from lesion_exp.scheduler.schedule import Schedule, require_known_length
from lesion_exp.value_range import check_range


def one_cycle(
    optimizer: Optimizer,
    total_steps: float,
    steps_per_epoch: int,
    warmup_fraction: float = 0.3,
    start_lr_ratio: float = 0.04,
    min_lr_ratio: float = 4.0e-6,
    min_momentum: float = 0.85,
    max_momentum: float = 0.95,
) -> Schedule:
    """Returns a schedule whose learning rate rises to its peak and falls to nearly 0, along cosines.

    The momentum falls while the learning rate rises, and vice versa. Source: Smith and Topin 2018, arXiv:1708.07120;
    torch's OneCycleLR with its defaults.

    Args:
        optimizer: its groups have the peak learning rates; it must have a momentum or betas.
        total_steps: optimizer steps of the whole training.
        steps_per_epoch: optimizer steps in an epoch; the cycle does not depend on it.
        warmup_fraction: share of the training in which the learning rate rises, in (0, 1).
        start_lr_ratio: first learning rate as a share of the peak, in (0, 1].
        min_lr_ratio: final learning rate as a share of the peak, in (0, `start_lr_ratio`].
        min_momentum: momentum, or first beta, at the peak, in [0, 1).
        max_momentum: momentum, or first beta, at start and end, in [0, 1).

    Raises:
        ConfigError: a value is out of range, the training has no end, or the optimizer has no momentum.
    """
    del steps_per_epoch
    require_known_length(total_steps, "one_cycle")
    check_range("scheduler.warmup_fraction", warmup_fraction)
    if not 0 < min_lr_ratio <= start_lr_ratio <= 1:
        raise ConfigError(
            f"expected 0 < scheduler.min_lr_ratio <= scheduler.start_lr_ratio <= 1, got {min_lr_ratio} and "
            f"{start_lr_ratio}; the defaults are 4e-6 and 0.04"
        )
    if not 0 <= min_momentum <= max_momentum < 1:
        raise ConfigError(
            f"expected 0 <= scheduler.min_momentum <= scheduler.max_momentum < 1, got {min_momentum} and "
            f"{max_momentum}; the defaults are 0.85 and 0.95"
        )
    if not {"momentum", "betas"} & set(optimizer.defaults):
        raise ConfigError(
            f"expected an optimizer with momentum or betas for scheduler=one_cycle, got {type(optimizer).__name__}; "
            f"choose optimizer=adamw"
        )
    while warmup_fraction * int(total_steps) == 1:  # torch divides by the length of the rise less one step
        warmup_fraction = math.nextafter(warmup_fraction, 1)
    scheduler = OneCycleLR(
        optimizer,
        max_lr=[float(group["lr"]) for group in optimizer.param_groups],
        total_steps=int(total_steps),
        pct_start=warmup_fraction,
        base_momentum=min_momentum,
        max_momentum=max_momentum,
        div_factor=1 / start_lr_ratio,
        final_div_factor=start_lr_ratio / min_lr_ratio,
    )
    return Schedule(scheduler, interval="step")
