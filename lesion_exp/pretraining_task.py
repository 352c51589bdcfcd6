"""The LightningModule of self-supervised pretraining: the loss of a method, and a probe by nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from lesion_exp.augmentation.on_device import apply_plan
from lesion_exp.backbone.backbone import Backbone
from lesion_exp.backbone.depthwise import fast_depthwise_gradients
from lesion_exp.backbone.heads import KNNHead
from lesion_exp.backbone.options import KNNOptions
from lesion_exp.data.lesion_dataset import Sample
from lesion_exp.evaluation.confusion import metrics_of_counts
from lesion_exp.evaluation.registry import KNN_ACCURACY, KNN_BALANCED_ACCURACY
from lesion_exp.pretrain.method import Method, Progress
from lesion_exp.scheduler.schedule import Schedule
from lesion_exp.task import NetworkTask, ParameterGroups, TaskOptions, training_length

AT_ONCE: Final = 512
"""Number of images whose neighbours are found at once, which limits the memory for their similarities."""
Found = tuple[Tensor, Tensor, Tensor]
"""Features, labels and positions of a batch of the probe."""


class PretrainingTask(NetworkTask):
    """Trains the body of a backbone with a method that needs no labels; the backbone's head takes no part.

    Args:
        backbone: the network.
        method: the loss with its heads and targets.
        options: see `TaskOptions`; the classes are those of the probe, none without labels.
        make_optimizer: see `NetworkTask`.
        make_schedule: see `NetworkTask`.
        neighbours: number of nearest training images that vote in the probe.
    """

    def __init__(
        self,
        backbone: Backbone,
        method: Method,
        options: TaskOptions,
        make_optimizer: Callable[[ParameterGroups, float], Optimizer],
        make_schedule: Callable[[Optimizer, float, int], Schedule],
        neighbours: int,
    ) -> None:
        super().__init__(backbone, options, make_optimizer, make_schedule)
        backbone.head = nn.Identity()  # type: ignore[assignment]
        self.method = method
        method.attach(backbone.body)
        self.neighbours = neighbours
        self._probed: tuple[list[Found], list[Found]] = ([], [])

    def encoder(self) -> nn.Module:
        """Returns the body whose weights are the result: the trained body, or the teacher of the method."""
        return self.backbone.body if self.method.teacher is None else self.method.teacher

    # training

    def _enter_epoch(self) -> None:
        if self.current_epoch + 1 == training_length(self.trainer).num_epochs:
            self.trainer.check_val_every_n_epoch = 1  # so that the last epoch is probed as well

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Returns the loss of the views of a batch, a scalar.

        The rows of a batch are the images of view 0, then those of view 1, and so on.
        """
        images = batch["image"]
        if "plan" in batch:
            images = apply_plan(images, batch["plan"], self.options.image_size)
        progress = self._progress()
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.method.before_step(self.backbone.body, progress)
        views = self.normalize(images).chunk(self.method.num_views)
        with fast_depthwise_gradients(self.backbone):
            value = self.method.loss(self.backbone.body, views, progress)
        self._record(value, len(views[0]))
        return value

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Lets the method change gradients."""
        self.method.after_backward(self._progress())

    def parameter_groups(self) -> ParameterGroups:
        """Returns the groups of the body, and those of the method's heads, which have the full learning rate."""
        groups = super().parameter_groups()
        heads = [weights for weights in self.method.parameters() if weights.requires_grad]
        decays = self.options.decay_norms_and_biases
        for chosen, extra in (
            ([weights for weights in heads if decays or weights.ndim > 1], {}),
            ([weights for weights in heads if not decays and weights.ndim <= 1], {"weight_decay": 0.0}),
        ):
            if chosen:
                groups.append({"params": chosen, "lr_scale": 1.0, **extra})
        return groups

    def _progress(self) -> Progress:
        return Progress(self.global_step, training_length(self.trainer).total_steps, self.current_epoch)

    # probe

    def on_validation_epoch_start(self) -> None:
        """Begins a probe."""
        self._probed = ([], [])

    def validation_step(self, batch: Sample, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collects the features of labelled training images (loader 0) and of validation images (loader 1)."""
        features = self.encoder()(self.normalize(batch["image"])).float()
        self._probed[dataloader_idx].append((features, batch["label"], batch["index"]))

    def on_validation_epoch_end(self) -> None:
        """Logs the accuracies of the probe, the same on every rank."""
        (bank, labels), (queries, true) = (_gathered(found) for found in self._probed)
        self._probed = ([], [])
        classes: Sequence[str] = self.options.classes
        head = KNNHead(bank.shape[1], len(classes), KNNOptions(k=min(self.neighbours, len(bank)))).to(bank.device)
        head.remember(bank, labels, None)
        votes = torch.cat([head(part) for part in torch.split(queries, AT_ONCE)])
        cells = (true * len(classes) + votes.argmax(dim=1)).cpu().numpy()
        counts = np.bincount(cells, minlength=len(classes) ** 2).reshape(len(classes), len(classes), 1)
        found: dict[str, Any] = metrics_of_counts(counts.astype(np.float64), tuple(classes))
        of_probe = {KNN_BALANCED_ACCURACY: "balanced_accuracy", KNN_ACCURACY: "accuracy"}
        logged = {f"val/{name}": float(found[metric][0]) for name, metric in of_probe.items()}
        self.log_dict(logged, rank_zero_only=False, sync_dist=False)


def _gathered(batches: Sequence[Found]) -> tuple[Tensor, Tensor]:
    """Returns features and labels of all ranks in the order of the part, whatever the number of processes."""
    features, labels, index = (torch.cat(parts) for parts in zip(*batches, strict=True))
    if dist.is_available() and dist.is_initialized():
        parts: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(parts, (features.cpu(), labels.cpu(), index.cpu()))
        features, labels, index = (torch.cat(kind).to(features.device) for kind in zip(*parts, strict=True))
    order = index.argsort()
    return features[order], labels[order]
