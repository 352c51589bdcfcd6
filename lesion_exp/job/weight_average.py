"""The moving average of the weights that is validated, tested and saved."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from lesion_exp.errors import ConfigError


class MovingAverage(WeightAveraging):
    """Moving average of weights and buffers with a warm-up: after n steps (1 + n) / (10 + n) is kept at most.

    Without the warm-up the random first weights stay in the average for 1 / (1 - decay) steps and more.

    Args:
        decay: share of the average that is kept a step, between 0 and 1.

    Raises:
        ConfigError: another value.
    """

    def __init__(self, decay: float) -> None:
        if not 0 < decay < 1:
            raise ConfigError(f"expected trainer.ema_decay between 0 and 1, got {decay}; 0.999 is usual")
        self.decay = decay
        self._trained: dict[str, Tensor] | None = None
        super().__init__(multi_avg_fn=self._average)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gives the module the average, and remembers the weights that were trained for the last checkpoint."""
        self._trained = {name: weights.detach().clone() for name, weights in pl_module.state_dict().items()}
        super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Saves the average as the weights, and beside it those that were trained, from which training can go on."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._trained is not None and "current_model_state" in checkpoint:
            checkpoint["current_model_state"] = self._trained

    def _average(self, averaged: Any, current: Any, num_averaged: Tensor | int) -> None:
        steps = int(num_averaged)
        share = 1 - min(self.decay, (1 + steps) / (10 + steps))
        if averaged[0].is_floating_point():  # torch hands over tensors of one type at a time
            torch._foreach_lerp_(averaged, current, share)
            return
        for kept, new in zip(averaged, current, strict=True):  # counters of batch norm have no average
            kept.copy_(new)
