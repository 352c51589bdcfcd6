"""Real images of a run, for the original network and for an exported file of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from lesion_exp.data.lesion_dataset import Sample
from lesion_exp.errors import DataError
from lesion_exp.evaluation.calibrator import Calibrator
from lesion_exp.evaluation.predictions import FloatArray, known_rows
from lesion_exp.image_file import UInt8Array, read_image
from lesion_exp.model.predictor import collate
from lesion_exp.model.restore import Restored
from lesion_exp.verbs.export.network import IMAGES, other_inputs
from lesion_exp.verbs.export.program import Arrays


class RealImages:
    """Images of `rows` (of a data set's table), by their position, read from their files each time.

    Args:
        restored: the original network.
        calibrator: of its probabilities; None leaves them.
        rows: which images.
        inside: whether the exported file takes photographs, not squares.
    """

    def __init__(self, restored: Restored, calibrator: Calibrator | None, rows: pd.DataFrame, *, inside: bool) -> None:
        self.restored = restored
        restored.classifier.eval()
        self.calibrator = calibrator
        self.rows = rows.reset_index(drop=True)
        self.inside = inside
        encoder = restored.encoder
        self.metadata = None if encoder is None else torch.from_numpy(encoder.encode(self.rows))

    def __len__(self) -> int:
        return len(self.rows)

    def samples(self, positions: Sequence[int]) -> Sample:
        """What the original network is given, as a batch.

        Raises:
            DataError: a file cannot be read any more.
        """
        preparation, made = self.restored.preparation, []
        for position in positions:
            row = self.rows.iloc[position]
            sample = preparation.from_files(row["image_path"], **{key: row[key] for key in preparation.companions})
            if self.metadata is not None:
                sample["metadata"] = self.metadata[position]
            made.append(sample)
        batch = collate([""] * len(made), made).sample
        assert batch is not None, "there are images"
        return batch

    def photographs(self, positions: Sequence[int]) -> UInt8Array:
        """uint8 (N, H, W, 3), decoded and no more; all must have one size."""
        return np.stack([read_image(self.rows["image_path"].iloc[position]) for position in positions])

    def inputs(self, positions: Sequence[int], samples: Sample | None = None) -> Arrays:
        """What the exported file is given; `samples` where they are made already."""
        if self.inside:
            arrays = {IMAGES: self.photographs(positions)}
        else:
            samples = self.samples(positions) if samples is None else samples
            arrays = {IMAGES: self._normalised(samples["image"])}
        others = other_inputs(self.restored)
        if "clinical" in others:
            assert samples is not None, "a second photograph is prepared outside"
            arrays["clinical"] = self._normalised(samples["clinical"])
        if self.metadata is not None:
            arrays["metadata"] = self.metadata[list(positions)].numpy()
        return arrays

    def original(self, samples: Sample) -> FloatArray:
        """float64 (N, C), what the original network says of `samples`, in float32 and on the CPU."""
        numbered = Sample(**{**samples, "index": torch.arange(len(samples["image"]))})
        with torch.inference_mode():
            _, probs, _ = self.restored.classifier.predict_step(numbered, 0)
        found: FloatArray = probs.numpy().astype(np.float64)
        return found if self.calibrator is None else self.calibrator.apply(found)

    def of_one_size(self, count: int) -> list[int]:
        """`count` positions, some again if need be, of photographs of the size that the first one has."""
        places = range(min(len(self), 2 * count)) if self.inside else range(len(self))
        shapes = [self.photographs([place]).shape if self.inside else () for place in places]
        alike = [place for place, shape in zip(places, shapes, strict=True) if shape == shapes[0]]
        return [alike[number % len(alike)] for number in range(count)]

    def _normalised(self, images: torch.Tensor) -> np.ndarray:
        values: np.ndarray = self.restored.classifier.normalize(images).contiguous().numpy()
        return values


def drawn(table: pd.DataFrame, part: str, count: int) -> pd.DataFrame:
    """At most `count` rows of a part of a split table whose classes the network knows, the same each time.

    Raises:
        DataError: the part is empty.
    """
    rows = known_rows(table[table["split"] == part])
    if rows.empty:
        raise DataError(f"expected images in the {part} part, got none")
    return rows.sample(min(count, len(rows)), random_state=0)
