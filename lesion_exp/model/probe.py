"""Classifiers of a frozen network whose head is set by one step an epoch on all training images, without gradients."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch import Tensor
from torch.optim import Optimizer

from lesion_exp.backbone.heads import KNNHead
from lesion_exp.data.lesion_dataset import Sample
from lesion_exp.loss.cross_entropy import CrossEntropy
from lesion_exp.task import LesionClassifier
from lesion_exp.tracking.lightning_logger import TrackingLogger

log = logging.getLogger(__name__)

MOST_LEFT_OUT: Final = 2048
"""Training images, at most, whose own vote is left out for `train/loss` of a `NeighbourProbe`."""


class Probe(LesionClassifier):
    """The base of both probes: a batch is the whole epoch, and the probe takes the steps instead of Lightning."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.automatic_optimization = False

    def features_of(self, batch: Sample) -> Tensor:
        """Returns the features of a batch, floating point (N, F), which it may have in the place of images."""
        with torch.no_grad():
            return batch["features"] if "features" in batch else self.encode(batch)

    def class_weights(self) -> Tensor | None:
        """Returns the weights of the classes in the loss, float32 (C,); None weighs all alike."""
        return self.loss.weights if isinstance(self.loss, CrossEntropy) else None

    def take_step(self, closure: Callable[[], Any]) -> None:
        """Takes a step of the optimizer, which Lightning counts; the scaler of 16-mixed would need gradients."""
        optimizer: Any = self.optimizers()
        optimizer._on_before_step()
        optimizer.optimizer.step(closure)
        optimizer._on_after_step()

    def log_loss(self, value: float, count: int) -> Tensor:
        """Logs the mean loss of `count` images as the epoch's, and returns it as a scalar."""
        self.training_metrics.update(total=torch.tensor(value * count, dtype=self._mean_loss.total.dtype), count=count)
        self.log("train/loss_step", value, batch_size=count, rank_zero_only=True)
        return torch.tensor(value)

    def log_found(self, **values: Any) -> None:
        """Logs parameters `found.NAME` of the run."""
        for logger in self.trainer.loggers:
            if isinstance(logger, TrackingLogger) and logger.experiment is not None:
                logger.experiment.log_params({"found": values})


class NeighbourProbe(Probe):
    """Remembers the features of all training images, and votes with the nearest (see `KNNHead`).

    The training ends after one epoch, and the loss `train/loss` is that of at most `MOST_LEFT_OUT` images without
    their own vote. Votes have the weights that the loss gives to their classes.
    """

    def on_train_start(self) -> None:
        """Logs which settings have no effect."""
        super().on_train_start()
        if self.trainer.is_global_zero:
            log.info(
                "backbone.head=knn trains no weights: the head has stored all training images after one epoch; "
                "optimizer, scheduler and trainer.max_epochs have no effect"
            )

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Returns the mean loss of images without their own vote, a scalar."""
        head, labels = self.backbone.head, batch["label"]
        assert isinstance(head, KNNHead), "the config has backbone.head=knn"
        self.take_step(lambda: head.remember(self.features_of(batch), labels, self.class_weights()))
        places = torch.arange(0, len(labels), max(1, -(-len(labels) // MOST_LEFT_OUT)), device=labels.device)
        return self.log_loss(float(self.loss(head.without_itself(places), labels[places])), len(labels))

    def on_train_epoch_end(self) -> None:
        """Ends the training: another epoch would remember the same."""
        super().on_train_epoch_end()
        self.trainer.should_stop = True

    def on_train_end(self) -> None:
        """Logs how many features the head has stored, and that they are part of the network's files."""
        head = self.backbone.head
        assert isinstance(head, KNNHead), "the config has backbone.head=knn"
        if self.trainer.is_global_zero:
            log.info(
                "the head has stored %s training images as %s features each: each file of the network contains these "
                "features (%.1f MB), but not the images",
                f"{len(head.memory):,}",
                f"{head.in_features:,}",
                head.megabytes(),
            )
            self.log_found(memory_images=len(head.memory), memory_megabytes=round(head.megabytes(), 1))

    def configure_optimizers(self) -> Any:
        """Returns an optimizer that only calls its closure, so that Lightning counts its steps."""
        head = self.backbone.head
        assert isinstance(head, KNNHead), "the config has backbone.head=knn"
        return _ByItsClosure([head.class_weights])


class _ByItsClosure(Optimizer):
    def __init__(self, params: Iterable[Tensor]) -> None:
        super().__init__(params, {})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Calls `closure`."""
        assert closure is not None, "a step needs a closure"
        return closure()
