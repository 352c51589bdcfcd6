"""The metrics of training and validation epochs: torchmetrics with states on the device, synchronised over processes.

The states are those of torchmetrics. The values at the end of the epoch are computed from them by the definitions of
`lesion_exp.evaluation`, which the final evaluation of a run also uses. These differ from torchmetrics in the means over
classes: torchmetrics counts a class without images as 0 if it was predicted (recall, F1) or always (AUROC), so that its
means depend on which classes a small validation part happens to lack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAUROC, MulticlassConfusionMatrix
from torchmetrics.utilities.data import dim_zero_cat

from lesion_exp.evaluation.confusion import metrics_of_counts
from lesion_exp.evaluation.predictions import check_finite
from lesion_exp.evaluation.ranking import mean_area
from lesion_exp.evaluation.registry import AUROC_MACRO, LOSS, shown_in

EXACT: Final = torch.float32 if torch.backends.mps.is_available() else torch.float64
"""The type of the sum of losses; Apple's GPUs have no float64."""
OWN_NAMES: Final = (LOSS, "confusion", "ranking")
"""Names in the collection of validation metrics, which no added metric can have."""


def training_metrics() -> MetricCollection:
    """Returns the metric of training, `train/loss`. Its `update` takes `total` and `count` (see `MeanLoss`)."""
    return MetricCollection({LOSS: MeanLoss()}, prefix="train/", compute_groups=False)


def validation_metrics(
    objective: Callable[[Tensor, Tensor], Tensor],
    classes: Sequence[str],
    image_ids: Sequence[str],
    added: Mapping[str, Metric] | None = None,
) -> MetricCollection:
    """Returns the metrics of the validation part at the end of an epoch.

    These are `val/loss`, the metrics that the registry shows for an epoch, `val/recall/CLASS`, and `val/NAME` for each
    metric in `added`. For each batch, `update` takes `logits` float32 (N, C), `preds` (their softmax), `target` int64
    (N,), and `index` int64 (N,), the positions of the images in the part.

    Args:
        objective: the loss as a function of all logits and labels of the part.
        classes: class names, in class order.
        image_ids: the image ids of the part, by position.
        added: further torchmetrics metrics, by name.
    """
    own: dict[str, Metric] = {
        LOSS: PartLoss(objective, image_ids),
        "confusion": MeansOfClasses(classes),
        "ranking": MeanAUROC(len(classes)),
    }
    return MetricCollection({**own, **(added or {})}, prefix="val/", compute_groups=False)


class MeanLoss(Metric):
    """The mean loss over the images of an epoch; `update` does not synchronise with the GPU."""

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=EXACT), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, total: Tensor, count: int) -> None:
        """Adds the sum of the losses of `count` images, a scalar."""
        self.total = self.total + total.to(self.total)
        self.count = self.count + count

    def compute(self) -> float:
        """Returns the mean over all processes; 0 before the first image."""
        return float(self.total) / max(int(self.count), 1)

    def over_processes(self) -> tuple[float, float]:
        """Returns the sum of the losses and the number of images over all processes; each process must call it."""
        with self.sync_context():
            return float(self.total), float(self.count)

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = "") -> Any:
        """Moves the states to a device; their precision remains if the network is converted to bfloat16."""
        moved = super()._apply(fn, exclude_state)
        self.total = self.total.to(EXACT)
        self._defaults["total"] = torch.zeros_like(self.total)
        return moved


class PartLoss(Metric):
    """The loss of all images of a part at once: a loss with class weights is not the mean of the losses of batches."""

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    logits: list[Tensor]
    target: list[Tensor]
    index: list[Tensor]

    def __init__(self, objective: Callable[[Tensor, Tensor], Tensor], image_ids: Sequence[str]) -> None:
        super().__init__()
        self._objective = objective
        self._image_ids = image_ids
        for name in ("logits", "target", "index"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, target: Tensor, index: Tensor) -> None:
        """Stores a batch: `logits` float32 (N, C), `target` int64 (N,), `index` int64 (N,), positions in the part."""
        self.logits.append(logits)
        self.target.append(target)
        self.index.append(index)

    def compute(self) -> Tensor:
        """Returns the loss, a scalar, computed in the order of the part, so that the number of processes has no effect.

        Raises:
            DataError: logits are not finite, because training diverged.
        """
        index = dim_zero_cat(self.index)
        order = index.argsort()
        assert bool((index[order].diff() > 0).all()), "an image was evaluated twice"
        logits, target = dim_zero_cat(self.logits)[order], dim_zero_cat(self.target)[order]
        probs = logits.softmax(dim=1).double().cpu().numpy()
        check_finite(probs, [self._image_ids[place] for place in index[order].tolist()])
        return self._objective(logits, target)


class MeansOfClasses(MulticlassConfusionMatrix):
    """The metrics of an epoch that follow from the confusion matrix, and the recall of each class."""

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__(num_classes=len(classes), validate_args=False)
        self._classes = tuple(classes)

    def compute(self) -> dict[str, float]:  # type: ignore[override]
        """Returns the metrics by name, without those that are undefined."""
        counts = self.confmat.cpu().numpy().astype(np.float64)[..., None]
        names = (*shown_in("epoch"), *(f"recall/{name}" for name in self._classes))
        found = metrics_of_counts(counts, self._classes)
        return {name: float(found[name][0]) for name in names if name in found and not np.isnan(found[name][0])}


class MeanAUROC(MulticlassAUROC):
    """The mean AUROC over the classes for which it is defined (see `mean_area`)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes=num_classes, average="none", validate_args=False)

    def compute(self) -> dict[str, float]:  # type: ignore[override]
        """Returns the mean by its name; empty if it is undefined for every class."""
        probs, true = dim_zero_cat(self.preds).double().cpu().numpy(), dim_zero_cat(self.target).cpu().numpy()
        found = mean_area(probs, true)
        return {} if np.isnan(found) else {AUROC_MACRO: found}
