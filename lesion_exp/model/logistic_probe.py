"""A linear probe: the classifier whose head is solved for instead of being trained in steps."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from lesion_exp.data.lesion_dataset import Sample
from lesion_exp.model.checkpoint_file import read_checkpoint
from lesion_exp.model.probe import Probe
from lesion_exp.optimizer.logistic_path import LogisticPath, Problem
from lesion_exp.task import parameter_groups, training_length

log = logging.getLogger(__name__)

STRENGTH: Final = "train/strength"
ITERATIONS: Final = "train/iterations"


class LogisticProbe(Probe):
    """Solves a logistic regression on all training images in each epoch, with weaker and weaker penalties.

    The best epoch on validation, which every run chooses, is the best strength. `train/strength` and
    `train/iterations` say what each epoch did, the parameter `found.strength` which strength was chosen.
    """

    def on_train_start(self) -> None:
        """Sets the weights of the head to zero, where the path begins with every seed."""
        super().on_train_start()
        if self.global_step == 0:
            with torch.no_grad():
                for weights in self.backbone.head.parameters():
                    weights.zero_()

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Returns the weighted mean cross-entropy at the minimum, a scalar."""
        optimizer: Any = self.optimizers()
        path: LogisticPath = optimizer.optimizer
        strength = path.strength(self.current_epoch, training_length(self.trainer).num_epochs)
        order = batch["index"].argsort(stable=True)  # the same in each epoch, so that the path prepares them once
        features, labels = self.features_of(batch)[order], batch["label"][order]
        self.take_step(lambda: Problem(features, labels, self.class_weights(), strength))
        solution = path.solution
        assert solution is not None, "a step was made"
        of_epoch = {STRENGTH: strength, ITERATIONS: float(solution.iterations)}
        self.log_dict(of_epoch, on_step=False, on_epoch=True, batch_size=len(labels), rank_zero_only=True)
        return self.log_loss(solution.loss, len(labels))

    def configure_optimizers(self) -> Any:
        """Returns the solver alone: it has no learning rate that a schedule could change."""
        return self.make_optimizer(parameter_groups(self.backbone, self.options.decay_norms_and_biases), self.lr)

    def on_train_end(self) -> None:
        """Logs the strength that validation chose."""
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        if not best or not self.trainer.is_global_zero:
            return
        optimizer: Any = self.optimizers()
        path: LogisticPath = optimizer.optimizer
        epoch, num_epochs = int(read_checkpoint(Path(best))["epoch"]), training_length(self.trainer).num_epochs
        strength = path.strength(epoch, num_epochs)
        log.info("penalty %.3g, number %d of %d, is the best on validation", strength, epoch + 1, num_epochs)
        if num_epochs > 1 and epoch in (0, num_epochs - 1):
            key, factor = ("weakest", 0.01) if epoch else ("strongest", 100)
            log.warning(
                "the best penalty is at the end of the path; set optimizer.%s=%.3g to search beyond it",
                key,
                getattr(path, key) * factor,
            )
        self.log_found(strength=f"{strength:.6g}")
