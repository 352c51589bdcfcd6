"""The metrics of an epoch as torchmetrics keeps them: states on the device, synchronised over processes.

What is summed and kept is torchmetrics'; what is made of it at the epoch's end are the definitions of
`lesion_exp.evaluation`, which a run's final evaluation uses, too. They differ from those of torchmetrics in the means
over classes: torchmetrics counts a class without images as 0 where it was predicted (recall, F1) and in the AUROC
always, so that its means depend on which classes a small validation part happens to lack.
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
"""Of the sum of an epoch's losses; Apple's GPUs have no float64."""


def training_metrics() -> MetricCollection:
    """What is measured while an epoch trains: `train/loss`. Its `update` takes `total` and `count` (see `MeanLoss`)."""
    return MetricCollection({LOSS: MeanLoss()}, prefix="train/", compute_groups=False)


def validation_metrics(
    objective: Callable[[Tensor, Tensor], Tensor],
    classes: Sequence[str],
    image_ids: Sequence[str],
    added: Mapping[str, Metric] | None = None,
) -> MetricCollection:
    """What is measured of the validation part at the end of an epoch: `val/loss`, the metrics that the registry shows
    for an epoch, `val/recall/CLASS`, and `val/NAME` of each metric in `added`.

    Its `update` takes, for each batch, `logits` float32 (N, C), `preds` (their softmax), `target` int64 (N,) and the
    positions of the images in the part, `index` int64 (N,).

    Args:
        objective: the loss of all logits and labels of the part at once.
        classes: class names.
        image_ids: of the part, by position.
        added: further torchmetrics metrics by their names.
    """
    own: dict[str, Metric] = {
        LOSS: PartLoss(objective, image_ids),
        "confusion": MeansOfClasses(classes),
        "ranking": MeanAUROC(len(classes)),
    }
    return MetricCollection({**own, **(added or {})}, prefix="val/", compute_groups=False)


OWN_NAMES: Final = (LOSS, "confusion", "ranking")
"""Names in the collection that no added metric can have."""


class MeanLoss(Metric):
    """The mean loss of the images of an epoch; updating it waits for no step of a GPU."""

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
        """The mean over all processes; 0 before the first image."""
        return float(self.total) / max(int(self.count), 1)

    def over_processes(self) -> tuple[float, float]:
        """The sum of the losses and the number of images, over all processes; each process must call it."""
        with self.sync_context():
            return float(self.total), float(self.count)

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = "") -> Any:
        """Moves the states to a device. They keep their precision where the network is made bfloat16."""
        moved = super()._apply(fn, exclude_state)
        self.total = self.total.to(EXACT)
        self._defaults["total"] = torch.zeros_like(self.total)
        return moved


class PartLoss(Metric):
    """The loss of all images of a part at once: losses that weight classes are no mean of their batches' losses."""

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
        """Keeps a batch: `logits` float32 (N, C), `target` int64 (N,), `index` int64 (N,), positions in the part."""
        self.logits.append(logits)
        self.target.append(target)
        self.index.append(index)

    def compute(self) -> Tensor:
        """The loss, a scalar, in the order of the part, so that it does not depend on the number of processes.

        Raises:
            DataError: logits that are no numbers; training diverged.
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
        """The metrics by name; what is not determined is left out."""
        counts = self.confmat.cpu().numpy().astype(np.float64)[..., None]
        names = (*shown_in("epoch"), *(f"recall/{name}" for name in self._classes))
        found = metrics_of_counts(counts, self._classes)
        return {name: float(found[name][0]) for name in names if name in found and not np.isnan(found[name][0])}


class MeanAUROC(MulticlassAUROC):
    """The mean AUROC of the classes that have images."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes=num_classes, average="none", validate_args=False)

    def compute(self) -> dict[str, float]:  # type: ignore[override]
        """The mean by its name; nothing where no class has images beside those of others."""
        probs, true = dim_zero_cat(self.preds).double().cpu().numpy(), dim_zero_cat(self.target).cpu().numpy()
        found = mean_area(probs, true)
        return {} if np.isnan(found) else {AUROC_MACRO: found}
