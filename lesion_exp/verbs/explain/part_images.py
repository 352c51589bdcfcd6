"""The images of a part as the network sees them, and their lesion masks in the same frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lesion_exp.data.lesion_dataset import LesionDataset, Sample, batch_of
from lesion_exp.data.mask import crop_to_lesion
from lesion_exp.data.store import ImageStore
from lesion_exp.explanation.localisation import Mask
from lesion_exp.explanation.network import ExplainedNetwork
from lesion_exp.image_file import UInt8Array, read_mask
from lesion_exp.model.restore import Restored


class PartImages:
    """The images of `rows` (of a data set's table), by their position.

    Args:
        restored: the network, and how an image is prepared for it.
        rows: which images.
        store: where they are.
    """

    def __init__(self, restored: Restored, rows: pd.DataFrame, store: ImageStore) -> None:
        self.restored = restored
        self.rows = rows.reset_index(drop=True)
        self.dataset: LesionDataset = restored.data(self.rows.assign(split="test"), store).dataset("test")

    @property
    def has_masks(self) -> bool:
        """Whether any of the images has a lesion mask."""
        return "mask_path" in self.rows and bool(self.rows["mask_path"].notna().any())

    def samples(self, positions: Sequence[int] | np.ndarray) -> Sample:
        """The samples at `positions`, as a batch."""
        batch: Sample = batch_of([self.dataset[(0, int(position))] for position in positions])
        return batch

    def explained(self, batch: Sample, device: torch.device) -> tuple[ExplainedNetwork, Tensor]:
        """The network with what goes with the images of `batch`, and these, normalised, on `device`."""
        classifier = self.restored.classifier.to(device)
        companions: dict[str, Any] = {}
        if "clinical" in batch:
            companions["clinical"] = classifier.normalize(batch["clinical"].to(device))
        if "metadata" in batch:
            companions["metadata"] = batch["metadata"].to(device)
        network = ExplainedNetwork(classifier, classifier.backbone.body, companions)
        return network, classifier.normalize(batch["image"].to(device))

    def mask(self, position: int) -> Mask | None:
        """The lesion in the square that the network sees, (S, S); None where it is not known, or not in the square."""
        locator = self.rows["mask_path"].iloc[position] if "mask_path" in self.rows else None
        if locator is None or pd.isna(locator):
            return None
        image: UInt8Array = self.dataset.store.read(int(self.dataset.rows[position]))
        mask = read_mask(locator, (image.shape[0], image.shape[1]))
        if self.dataset.options.mask == "crop":
            image, mask = crop_to_lesion(image, mask, self.dataset.options.mask_margin)
        _, moved = self.dataset.pipeline.evaluate(image, mask)
        assert moved is not None, "what goes in with a mask comes out with one"
        return moved > 0 if moved.any() else None
