"""The LightningModule, which trains a network: it computes the loss and the metrics of batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import Metric

from lesion_exp.augmentation.mix import Mix
from lesion_exp.augmentation.on_device import apply_plan
from lesion_exp.backbone.backbone import Backbone, without_running
from lesion_exp.backbone.class_token import CLASS_TOKEN
from lesion_exp.backbone.depthwise import fast_depthwise_gradients
from lesion_exp.data.lesion_dataset import Sample
from lesion_exp.epoch_metric import EXACT, MeanLoss, training_metrics, validation_metrics
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.registry import LOSS
from lesion_exp.image_classifier import ClassifierOptions, ImageClassifier
from lesion_exp.loss.base import Loss
from lesion_exp.scheduler.schedule import ENDLESS, Schedule, TrainingLength

ParameterGroups = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class TaskOptions(ClassifierOptions):
    """Settings of a training."""

    image_size: int
    lr: float
    seed: int = 0
    decay_norms_and_biases: bool = False


class NetworkTask(ImageClassifier, pl.LightningModule):
    """The common parts of all trainings of a backbone: normalisation, seeds, loss of the epoch, optimizer, checkpoints.

    Args:
        backbone: the network.
        options: see `TaskOptions`.
        make_optimizer: called with parameter groups and the learning rate.
        make_schedule: called with the optimizer, the number of training steps (infinite if training has no end) and
            the steps of an epoch.
    """

    def __init__(
        self,
        backbone: Backbone,
        options: TaskOptions,
        make_optimizer: Callable[[ParameterGroups, float], Optimizer],
        make_schedule: Callable[[Optimizer, float, int], Schedule],
    ) -> None:
        super().__init__(backbone, options)
        self.options: TaskOptions = options
        self.lr = options.lr  # an attribute of this name is what Lightning's learning-rate finder sets
        self.make_optimizer = make_optimizer
        self.make_schedule = make_schedule
        self.teacher: Callable[[Sample, LesionClassifier], Tensor] | None = None
        """Returns logarithms of probabilities, float32 (N, C), for the images of a batch as this network sees them. It
        is not a submodule, so that checkpoints do not contain it."""
        self.job_processes: int | None = None
        """The number of processes that the job asks for, if this process trains the batches of several of them."""
        self.asked_processes: int | None = None
        """The number of processes that the job asks for, if the run has another."""
        self.training_metrics = training_metrics()

    def on_train_start(self) -> None:
        """Enters the epoch in the middle of which a resumed run begins."""
        if self.trainer.fit_loop.restarted_mid_epoch:
            self._enter_epoch()

    def on_train_epoch_start(self) -> None:
        """Begins the mean loss of the epoch anew."""
        self.training_metrics.reset()
        self._enter_epoch()

    def _enter_epoch(self) -> None:
        """Is called when an epoch begins, and when a resumed run enters an epoch in its middle."""

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips gradients, also for a fused optimizer.

        Lightning refuses that in mixed precision, because gradients of fp16 are scaled until the step; those of bf16
        are not.
        """
        precision = self.trainer.precision_plugin
        if not gradient_clip_val or precision.precision == "16-mixed":
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_algorithm == "value":
            precision.clip_grad_by_value(optimizer, gradient_clip_val)
        else:
            precision.clip_grad_by_norm(optimizer, gradient_clip_val)

    def on_train_batch_start(self, batch: Sample, batch_idx: int) -> None:
        """Seeds dropout and mixing by (seed, epoch, batch, rank)."""
        torch.manual_seed(self._step_seed(batch_idx))

    def _record(self, value: Tensor, count: int) -> None:
        """Adds `value`, the mean loss of `count` images, to that of the epoch, and logs it as the loss of the step."""
        exact = value.detach().to(self._mean_loss.total)
        self.training_metrics.update(total=exact * count, count=count)
        self.log("train/loss_step", value, on_step=True, on_epoch=False, batch_size=count, rank_zero_only=True)

    def on_train_epoch_end(self) -> None:
        """Logs `train/loss`, the mean over the images of the whole epoch on all ranks."""
        self.log_dict(self.training_metrics.compute(), rank_zero_only=False, sync_dist=False)

    def mean_loss(self) -> float:
        """Returns the mean loss per image of the epoch so far, over all ranks; every rank must call it."""
        total, count = self._mean_loss.over_processes()
        return total / max(count, 1.0)

    @property
    def _mean_loss(self) -> MeanLoss:
        found = self.training_metrics[LOSS]
        assert isinstance(found, MeanLoss)
        return found

    @property
    def batches_per_batch(self) -> Fraction:
        """The number of batches of this process for each batch that a process of the job would have."""
        return Fraction(1) if self.job_processes is None else Fraction(self.job_processes, self.trainer.world_size)

    def _place(self, batch_idx: int) -> tuple[int, int]:
        """Returns the number of a batch among those of one of the job's processes, and the rank of that process."""
        if self.job_processes is None:
            return batch_idx, self.global_rank
        return divmod(batch_idx * self.trainer.world_size + self.global_rank, self.job_processes)

    def _step_seed(self, batch_idx: int) -> int:
        key = [self.options.seed, self.current_epoch, *self._place(batch_idx)]
        return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))

    def sign(self, run_id: str) -> None:
        """Writes the id of the run to the card in every checkpoint."""
        self.options = replace(self.options, card={**self.options.card, "run_id": run_id})

    # optimisation

    def configure_optimizers(self) -> Any:
        """Returns the optimizer over layer-wise groups and its schedule, in Lightning's form."""
        optimizer = self.make_optimizer(self.parameter_groups(), self.lr)
        for group in optimizer.param_groups:
            group["lr"] *= group.pop("lr_scale", 1.0)
            group["initial_lr"] = group["lr"]
        length = training_length(self.trainer)
        schedule = self.make_schedule(optimizer, length.total_steps, length.steps_per_epoch)
        described: dict[str, Any] = {"scheduler": schedule.scheduler, "interval": schedule.interval}
        if schedule.monitor is not None:
            described["monitor"] = schedule.monitor
            if schedule.monitor.startswith("val/"):  # an epoch without a validation has no value
                described["frequency"] = self.trainer.check_val_every_n_epoch or 1
        return {"optimizer": optimizer, "lr_scheduler": described}

    def on_validation_end(self) -> None:
        """Steps a schedule that reads a metric of validations, of which an epoch may have several."""
        for scheduler, monitor in self._watching_validations():
            value = self.trainer.callback_metrics.get(monitor)
            if value is not None:
                scheduler.step(float(value))

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Steps a schedule at the end of a step or an epoch, unless it was stepped when validations ended."""
        if all(scheduler is not stepped for stepped, _ in self._watching_validations()):
            super().lr_scheduler_step(scheduler, metric)

    def _watching_validations(self) -> list[tuple[ReduceLROnPlateau, str]]:
        """The schedules that read a metric of validations, with its name."""
        return [
            (one.scheduler, one.monitor)
            for one in self.trainer.lr_scheduler_configs
            if isinstance(one.scheduler, ReduceLROnPlateau) and one.monitor and one.monitor.startswith("val/")
        ]

    def parameter_groups(self) -> ParameterGroups:
        """Returns the groups of the parameters that are trained."""
        return parameter_groups(self.backbone, self.options.decay_norms_and_biases)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the card, which makes the file usable alone, and the sum of the epoch's losses."""
        checkpoint["lesion_exp"] = dict(self.options.card)
        checkpoint["epoch_loss"] = list(self._mean_loss.over_processes())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the sum of the losses of the epoch in the middle of which the checkpoint was saved.

        Raises:
            ConfigError: an earlier version trained the network with other features.
        """
        if self.options.card.get(CLASS_TOKEN) and not checkpoint["lesion_exp"].get(CLASS_TOKEN):
            raise ConfigError(
                "expected a checkpoint of a network that gives its class token, got one that an earlier version "
                "trained with the mean over the patches, which cannot go on; start a new run with lesion-exp train"
            )
        if self.global_rank == 0 and "epoch_loss" in checkpoint:
            total, count = checkpoint["epoch_loss"]
            self._mean_loss.update(torch.tensor(total, dtype=EXACT), int(count))


class LesionClassifier(NetworkTask):
    """Trains a backbone with a loss and predicts class probabilities.

    Args:
        backbone: the network.
        loss: the training objective.
        mix: mixes images and labels of a batch; None: they are not mixed.
        options: see `TaskOptions`.
        make_optimizer: called with parameter groups and the learning rate.
        make_schedule: called with the optimizer, the number of training steps (infinite if training has no end) and
            the steps of an epoch.
        validation_ids: the `image_id` of the validation part, in the order of its positions.
        added: metrics of each validation in addition to those that every run has.
    """

    def __init__(
        self,
        backbone: Backbone,
        loss: Loss,
        mix: Mix | None,
        options: TaskOptions,
        make_optimizer: Callable[[ParameterGroups, float], Optimizer],
        make_schedule: Callable[[Optimizer, float, int], Schedule],
        validation_ids: Sequence[str] = (),
        added: Mapping[str, Metric] | None = None,
    ) -> None:
        super().__init__(backbone, options, make_optimizer, make_schedule)
        self.loss = loss
        self.mix = mix
        # the loss as a function, because as a module of the metrics its weights would be in a checkpoint twice
        self.validation_metrics = validation_metrics(loss.of_validation, options.classes, validation_ids, added)

    # training

    def _enter_epoch(self) -> None:
        self.loss.set_epoch(self.current_epoch, training_length(self.trainer).num_epochs)
        if self.backbone.freeze_epochs:
            frozen = self.current_epoch < self.backbone.freeze_epochs
            self.backbone.freeze_body() if frozen else self.backbone.unfreeze_body()

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Returns the loss of the batch, a scalar."""
        faster = nullcontext() if "features" in batch else fast_depthwise_gradients(self.backbone)
        is_of_first = self._place(batch_idx)[1] == 0  # DDP keeps the running statistics of the first process alone
        running = nullcontext() if self.job_processes is None or is_of_first else without_running(self.backbone)
        with faster, running:  # the former looks at every function that is called
            value = self._loss_of(batch, batch_idx)
        self._record(value, len(batch["label"]))
        return value

    def _loss_of(self, batch: Sample, batch_idx: int) -> Tensor:
        if "plan" in batch:
            batch = batch.copy()
            batch["image"] = apply_plan(batch["image"], batch["plan"], self.options.image_size)
        if self.mix is None:
            return self._loss(self(batch), batch, self._teacher_of(batch))
        generator = torch.Generator().manual_seed(self._step_seed(batch_idx))
        views = [self.normalize(batch["image"])]
        if "clinical" in batch:
            views.append(self.normalize(batch["clinical"]))
        mixed = self.mix(views, generator)
        shown = batch.copy()
        shown["image"] = mixed.images[0]
        if "clinical" in batch:
            shown["clinical"] = mixed.images[1]
        weight, order = mixed.weight, mixed.permutation
        if "metadata" in batch:
            shown["metadata"] = weight * batch["metadata"] + (1 - weight) * batch["metadata"][order]
        logits = self(shown)
        if self.teacher is None:
            teacher, other = batch.get("teacher"), _ordered(batch.get("teacher"), order)
        else:
            teacher = other = self.teacher(shown, self)  # it sees the mixed image
        value = weight * self._loss(logits, batch, teacher)
        return value + (1 - weight) * self._loss(logits, batch, other, order)

    def _teacher_of(self, batch: Sample) -> Tensor | None:
        return batch.get("teacher") if self.teacher is None else self.teacher(batch, self)

    def _loss(self, logits: Tensor, batch: Sample, teacher: Tensor | None, order: Tensor | None = None) -> Tensor:
        """Returns the loss of `logits` for the labels and weights of `batch`, in another `order` if there is one."""
        further = {"weights": _ordered(batch.get("weight"), order), "teacher": teacher}
        given = {name: values for name, values in further.items() if values is not None}
        value: Tensor = self.loss(logits, _ordered(batch["label"], order), **given)
        return value

    # validation

    def on_validation_epoch_start(self) -> None:
        """Resets the metrics."""
        self.validation_metrics.reset()

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        """Updates the metrics with a batch."""
        logits = self(batch)
        self.validation_metrics.update(
            logits=logits, preds=logits.softmax(dim=1), target=batch["label"], index=batch["index"]
        )

    def on_validation_epoch_end(self) -> None:
        """Logs `val/loss` and the metrics of the whole part, the same on every rank."""
        self.log_dict(self.validation_metrics.compute(), rank_zero_only=False, sync_dist=False)
        self.validation_metrics.reset()

    # prediction

    def predict_step(self, batch: Sample, batch_idx: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the result of `predict_batch`; Lightning calls it by this name."""
        return self.predict_batch(batch)


def _ordered(values: Tensor | None, order: Tensor | None) -> Tensor | None:
    return values if values is None or order is None else values[order]


def training_length(trainer: pl.Trainer) -> TrainingLength:
    """Returns the length of the training of `trainer`, whose loader is made if necessary."""
    trainer.fit_loop.setup_data()
    epochs = trainer.max_epochs
    return TrainingLength(
        int(trainer.num_training_batches),
        trainer.accumulate_grad_batches,
        ENDLESS if epochs is None else epochs,
        trainer.max_steps,
    )


def parameter_groups(backbone: Backbone, decay_norms_and_biases: bool) -> ParameterGroups:
    """Returns the groups of the parameters that `backbone.tune` trains, with learning rates that decrease with depth.

    `lr_scale` is `layer_decay` to the power of the distance from the head. Norms and biases (vectors) get no weight
    decay unless `decay_norms_and_biases` is set.
    """
    layers, tuned = backbone.layer_groups(), {id(parameter) for parameter in backbone.tuned_parameters()}
    groups: ParameterGroups = []
    for depth, layer in enumerate(layers):
        parameters = [parameter for parameter in layer if id(parameter) in tuned]
        scale = backbone.layer_decay ** (len(layers) - 1 - depth)
        matrices = [parameter for parameter in parameters if decay_norms_and_biases or parameter.ndim > 1]
        vectors = [parameter for parameter in parameters if not decay_norms_and_biases and parameter.ndim <= 1]
        if matrices:
            groups.append({"params": matrices, "lr_scale": scale})
        if vectors:
            groups.append({"params": vectors, "lr_scale": scale, "weight_decay": 0.0})
    return groups
