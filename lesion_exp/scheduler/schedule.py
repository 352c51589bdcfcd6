"""A learning-rate scheduler with what the training loop must know to step it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from lesion_exp.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """A scheduler, when to step it, and the metric it looks at."""

    scheduler: LRScheduler | ReduceLROnPlateau
    interval: Literal["step", "epoch"]
    """`step`: after every optimizer step; `epoch`: after every epoch, or every validation where it watches one."""
    monitor: str | None = None
    """Name of the metric given to `scheduler.step`; None where it looks at none."""


def scaled_by(optimizer: Optimizer, factor: Callable[[int], float]) -> Schedule:
    """The schedule that gives every parameter group its own learning rate times `factor(optimizer step, from 0)`."""
    return Schedule(LambdaLR(optimizer, factor), interval="step")


def warmup_steps(warmup_epochs: float, total_steps: float, steps_per_epoch: int) -> int:
    """Length of the warm-up in optimizer steps; warns where training ends before the warm-up does.

    `total_steps` that is infinite or not positive stands for a training without an end.

    Raises:
        ConfigError: `warmup_epochs` is negative.
    """
    if warmup_epochs < 0:
        raise ConfigError(f"expected scheduler.warmup_epochs to be at least 0 epochs, got {warmup_epochs}")
    num_steps = round(warmup_epochs * steps_per_epoch)
    if 0 < total_steps <= num_steps:
        warnings.warn(
            f"the warm-up of {warmup_epochs} epochs ({num_steps} steps) takes the whole training ({total_steps} "
            f"steps); set scheduler.warmup_epochs below trainer.max_epochs",
            stacklevel=3,
        )
    return num_steps


def warmup_factor(step: int, num_warmup_steps: int) -> float:
    """Share of the learning rate at `step` (from 0): rises linearly from above 0 to 1 at the end of the warm-up."""
    return min((step + 1) / (num_warmup_steps + 1), 1.0)


def require_known_length(total_steps: float, name: str) -> None:
    """Refuses a training without an end for a scheduler that needs one.

    Raises:
        ConfigError: `total_steps` is not a positive, finite number.
    """
    if not 0 < total_steps < float("inf"):
        raise ConfigError(
            f"expected a training of known length for scheduler={name}, got {total_steps} steps; set a positive "
            f"trainer.max_epochs or trainer.max_steps, or choose scheduler=constant"
        )


ENDLESS = -1
"""What Lightning writes for a training without a last epoch, or without a last step."""


@dataclass(frozen=True)
class TrainingLength:
    """The length of a training, counted as Lightning counts it."""

    num_batches: int
    """Training batches an epoch on each process, limits applied."""
    accumulated: int = 1
    """Batches whose gradients are added before an optimizer step; the last batch of an epoch always ends a step."""
    max_epochs: int = ENDLESS
    max_steps: int = ENDLESS

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of a whole epoch."""
        return max(math.ceil(self.num_batches / self.accumulated), 1)

    @property
    def total_steps(self) -> float:
        """Optimizer steps of the whole training; infinite where neither epochs nor steps end it."""
        by_epochs = math.inf if self.max_epochs == ENDLESS else self.max_epochs * self.steps_per_epoch
        return by_epochs if self.max_steps == ENDLESS else min(by_epochs, self.max_steps)

    @property
    def num_epochs(self) -> int:
        """Epochs that the training begins; `ENDLESS` where there is no last one."""
        return ENDLESS if math.isinf(self.total_steps) else math.ceil(self.total_steps / self.steps_per_epoch)

    @property
    def total_batches(self) -> float:
        """Training batches of the whole training on each process."""
        if math.isinf(self.total_steps):
            return math.inf
        whole_epochs, more_steps = divmod(int(self.total_steps), self.steps_per_epoch)
        return whole_epochs * self.num_batches + more_steps * self.accumulated
