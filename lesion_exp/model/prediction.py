"""Predicts a part of a data set, every image once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from lesion_exp.data.loaders import Part, PartLoaders
from lesion_exp.evaluation.predictions import predictions_table
from lesion_exp.image_classifier import ImageClassifier
from lesion_exp.model.device import PredictionDevice
from lesion_exp.progress import Stage

Outputs = tuple[Tensor, Tensor, Tensor]
"""Positions, probabilities and energies of a batch, see `ImageClassifier.predict_batch`."""
Rows = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""Positions (N,), and probabilities with the energy as the last column (N, C + 1)."""


def predict_part(
    device: PredictionDevice, classifier: ImageClassifier, loaders: PartLoaders, part: Part
) -> pd.DataFrame:
    """Returns the predictions table of `part`: every image once, unknown classes included.

    Afterwards `classifier` is on the CPU, in evaluation mode.
    """
    loader = loaders.evaluation_dataloader(part, classifier.options.tta)
    device.prepare(classifier.eval())
    outputs: list[Outputs] = []
    try:
        with Stage("predicting", len(loaders.parts[part]), "images") as stage:
            for batch in loader:
                moved = device.moved(batch)
                with device.computing():
                    index, probs, energy = classifier.predict_batch(moved)
                outputs.append((index.cpu(), probs.cpu(), energy.cpu()))
                stage.advance(len(index))
    finally:
        classifier.cpu()
    return part_table(loaders.parts[part], classifier.options.classes, rows_of(outputs))


def rows_of(outputs: Sequence[Outputs]) -> Rows:
    """Returns the rows of the batches, one after the other."""
    index, probs, energy = (torch.cat(column).cpu().float() for column in zip(*outputs, strict=True))
    return index.long().numpy(), torch.column_stack([probs, energy]).numpy()


def part_table(part: pd.DataFrame, classes: Sequence[str], rows: Rows) -> pd.DataFrame:
    """Returns the predictions table of the images of `part` at the positions of `rows`, in their order."""
    positions, values = rows
    order = np.argsort(positions, kind="stable")
    assert len(np.unique(positions)) == len(positions), "an image was evaluated twice"
    positions, values = positions[order], values[order]
    return predictions_table(part.iloc[positions].reset_index(drop=True), values[:, :-1], classes, values[:, -1])
