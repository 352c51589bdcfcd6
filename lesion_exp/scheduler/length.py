"""How long a training is: optimizer steps an epoch, and steps, batches and epochs of the whole."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
