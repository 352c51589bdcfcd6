"""Learning-rate schedules, the warm-up that several of them share, and the length of a training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from lesion_exp.errors import ConfigError
from lesion_exp.value_range import check_range


@dataclass(frozen=True)
class Schedule:
    """A learning-rate scheduler, when to step it, and the metric that it needs."""

    scheduler: LRScheduler | ReduceLROnPlateau
    interval: Literal["step", "epoch"]
    """`step`: after every optimizer step; `epoch`: after every epoch, or every validation if `monitor` is one of its
    metrics."""
    monitor: str | None = None
    """The name of the metric that is passed to `scheduler.step`; None if it takes no metric."""


def scaled_by(optimizer: Optimizer, factor: Callable[[int], float]) -> Schedule:
    """Returns a schedule that multiplies the learning rate of each parameter group by `factor(step)`.

    `factor` takes the number of the optimizer step, counted from 0.
    """
    return Schedule(LambdaLR(optimizer, factor), interval="step")


def warmup_steps(warmup_epochs: float, total_steps: float, steps_per_epoch: int) -> int:
    """Returns the length of the warm-up in optimizer steps, and warns if training ends before the warm-up does.

    Args:
        warmup_epochs: length of the warm-up in epochs.
        total_steps: optimizer steps of the whole training; infinite or not positive for a training without an end.
        steps_per_epoch: optimizer steps in an epoch.

    Raises:
        ConfigError: `warmup_epochs` is negative.
    """
    check_range("scheduler.warmup_epochs", warmup_epochs)
    num_steps = round(warmup_epochs * steps_per_epoch)
    if 0 < total_steps <= num_steps:
        tenth = total_steps / steps_per_epoch / 10
        warnings.warn(
            f"the warm-up of {warmup_epochs} epochs ({num_steps} steps) takes the whole training ({total_steps} "
            f"steps); set scheduler.warmup_epochs below trainer.max_epochs, such as "
            f"scheduler.warmup_epochs={tenth:.2g}",
            stacklevel=3,
        )
    return num_steps


def warmup_factor(step: int, num_warmup_steps: int) -> float:
    """Returns the factor of the learning rate at `step`, counted from 0, which rises linearly to 1 in the warm-up."""
    return min((step + 1) / (num_warmup_steps + 1), 1.0)


def require_known_length(total_steps: float, name: str) -> None:
    """Checks that a training has an end, for the scheduler `name`, which needs one.

    Raises:
        ConfigError: `total_steps` is not a positive, finite number.
    """
    if not 0 < total_steps < float("inf"):
        raise ConfigError(
            f"expected a training with an end for scheduler={name}, got {total_steps} steps; set a positive "
            f"trainer.max_epochs or trainer.max_steps, or choose scheduler=constant"
        )


ENDLESS: Final = -1
"""Lightning's value of `max_epochs` and `max_steps` for no limit."""


@dataclass(frozen=True)
class TrainingLength:
    """The length of a training, as Lightning counts it."""

    num_batches: int
    """Training batches in an epoch on each process, after `trainer.limit_train_batches`."""
    accumulated: int = 1
    """Batches whose gradients are added before an optimizer step; a step always follows the last batch of an epoch."""
    max_epochs: int = ENDLESS
    max_steps: int = ENDLESS

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in a whole epoch."""
        return max(math.ceil(self.num_batches / self.accumulated), 1)

    @property
    def total_steps(self) -> float:
        """Optimizer steps of the whole training; infinite without a limit of epochs or steps."""
        by_epochs = math.inf if self.max_epochs == ENDLESS else self.max_epochs * self.steps_per_epoch
        return by_epochs if self.max_steps == ENDLESS else min(by_epochs, self.max_steps)

    @property
    def num_epochs(self) -> int:
        """The number of epochs that the training begins; `ENDLESS` without a limit."""
        return ENDLESS if math.isinf(self.total_steps) else math.ceil(self.total_steps / self.steps_per_epoch)

    @property
    def total_batches(self) -> float:
        """Training batches of the whole training on each process."""
        if math.isinf(self.total_steps):
            return math.inf
        whole_epochs, more_steps = divmod(int(self.total_steps), self.steps_per_epoch)
        return whole_epochs * self.num_batches + more_steps * self.accumulated
