"""The galleries of a method: of each class the images that were right, and wrong, with the evidence drawn over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lesion_exp import taxonomy
from lesion_exp.data.lesion_dataset import LesionDataset, Sample, batch_of, crop_to_lesion
from lesion_exp.data.store import ImageStore
from lesion_exp.evaluation.figures.gallery import Block, evidence_gallery
from lesion_exp.evaluation.figures.style import shortened
from lesion_exp.evaluation.predictions import IntArray, probabilities
from lesion_exp.explanation.localisation import FloatMap, Mask
from lesion_exp.explanation.network import ExplainedNetwork
from lesion_exp.explanation.overlay import overlay
from lesion_exp.image_file import UInt8Array, read_mask
from lesion_exp.model.restore import Restored
from lesion_exp.verbs.explain.subject import KINDS, Kind, Selection


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


_TITLE_LENGTH: Final = 72
Maps = Callable[[IntArray, str], list[FloatMap]]
"""From positions and a column of the predictions table (`prediction`, `label`: the class explained) to maps."""


def galleries(
    selection: Selection, table: pd.DataFrame, images: PartImages, maps: Maps, method: str, columns: int
) -> Iterator[tuple[str, Figure]]:
    """Class and gallery of each class in `selection`."""
    for name, kinds in selection.items():
        mine = table["label"] == name
        counts = {"right": int((mine & (table["prediction"] == name)).sum())}
        counts["wrong"] = int(mine.sum()) - counts["right"]
        blocks = [_block(kind, kinds[kind], counts, name, table, images, maps) for kind in KINDS]
        title = shortened(f"{method}: {name}, {taxonomy.full_name(name)}", _TITLE_LENGTH)
        yield name, evidence_gallery(blocks, title, columns)


def _block(
    kind: Kind,
    positions: IntArray,
    counts: dict[str, int],
    name: str,
    table: pd.DataFrame,
    images: PartImages,
    maps: Maps,
) -> Block:
    total = counts["right" if kind == "right" else "wrong"]
    if not len(positions):
        none_left = kind == "wrong" and total
        return Block(
            kind,
            [],
            [],
            [],
            empty="all of them, or other images of their lesions, stand above" if none_left else "none",
        )
    batch: Any = images.samples(positions)
    plain = [np.ascontiguousarray(image[:3].permute(1, 2, 0).numpy()) for image in batch["image"]]
    rows = [("image", plain), ("for the\npredicted class", _over(plain, maps(positions, "prediction")))]
    if kind != "right":
        rows.append(("for the\ntrue class", _over(plain, maps(positions, "label"))))
    masks = [images.mask(int(position)) for position in positions]
    shown = f"{len(positions)} of {total:,}" if kind != "wrong" else f"{len(positions)} others of {total:,}"
    return Block(f"{kind} ({shown})", [_caption(table, int(position)) for position in positions], rows, masks)


def _caption(table: pd.DataFrame, position: int) -> str:
    row = table.iloc[position]
    return f"{row['image_id']}\n{row['label']} → {row['prediction']} {probabilities(table)[position].max():.2f}"


def _over(images: list[np.ndarray], maps: list[FloatMap]) -> list[np.ndarray]:
    return [overlay(image, evidence) for image, evidence in zip(images, maps, strict=True)]
