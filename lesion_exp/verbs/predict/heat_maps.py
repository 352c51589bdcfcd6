"""Draws what the network sees of each predicted image beside the Grad-CAM map of its class."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from lesion_exp.errors import DataError
from lesion_exp.evaluation.figures.gallery import PNG_LEVEL, gallery
from lesion_exp.evaluation.figures.style import labels
from lesion_exp.explanation.saliency_map import overlay
from lesion_exp.image_file import UInt8Array
from lesion_exp.model.heat_maps import SaliencyMaps, enlarged, square_of
from lesion_exp.model.predictor import Batch, Predictor

COLUMN: Final = "gradcam"
"""Column of the results with the path of the picture."""
_LONGEST_NAME: Final = 100
_TITLE_WIDTH: Final = 26
"""Characters of a line above a picture."""


class HeatMaps:
    """Draws pictures of what the network sees, each beside the Grad-CAM map of the predicted class, into `folder`.

    It needs gradients, so it cannot be used in torch's inference mode.
    """

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        self.saliency = SaliencyMaps(predictor)
        self.classes = predictor.classes
        self.labels = dict(zip(self.classes, labels(self.classes, _TITLE_WIDTH, 2), strict=True))
        self.folder = folder

    def add(self, table: pd.DataFrame, batch: Batch, first: int) -> pd.DataFrame:
        """Draws the pictures of a batch and returns `table` with their paths.

        Args:
            table: the predictions of `batch`.
            batch: the images.
            first: number of the first of them among all images.

        Raises:
            DataError: a picture cannot be written.
        """
        paths: list[str | None] = [None] * len(table)
        if batch.sample is not None:
            readable = [row for row, error in enumerate(batch.errors) if not error]
            targets = [self.classes.index(name) if name in self.classes else None for name in table["prediction"]]
            maps = self.saliency.maps(batch.sample, [targets[row] or 0 for row in readable])
            for place, row in enumerate(readable):
                if targets[row] is not None:
                    square = square_of(batch.sample, place)
                    file = f"{first + row:06d}_{_stem(batch.names[row])}.png"
                    paths[row] = self._draw(square, maps[place], file, self._titles(table.iloc[row], batch.names[row]))
        return table.assign(**{COLUMN: pd.Series(paths, dtype=object, index=table.index)})[
            [*(name for name in table if name != "error"), COLUMN, "error"]
        ]

    def _titles(self, row: pd.Series, name: str) -> tuple[str, str]:
        predicted = row["prediction"]
        probability = f"probability {row[f'p_{predicted}']:.3f}"
        return f"{PurePosixPath(name).name}\nas the network sees it", f"{self.labels[predicted]}\n{probability}"

    def _draw(
        self, square: UInt8Array, saliency: npt.NDArray[np.floating[Any]], name: str, titles: tuple[str, str]
    ) -> str:
        path = self.folder / name
        picture = saliency_picture(square, saliency, titles)
        try:
            picture.save(path, compress_level=PNG_LEVEL)
        except OSError as error:
            raise DataError(
                f"expected to write a picture to {path}, got: {error}; check the folder and the free space"
            ) from error
        return str(path)


def saliency_picture(
    square: UInt8Array, saliency: npt.NDArray[np.floating[Any]], titles: tuple[str, str]
) -> Image.Image:
    """A picture of `square`, uint8 (S, S, 3) RGB, beside the map `saliency`, float (h, w), over it, with titles."""
    seen = enlarged(square)
    return gallery(np.stack([seen, overlay(seen, saliency)]), titles, tile=len(seen))


def _stem(name: str) -> str:
    """The name of a file, as part of the name of another file."""
    return re.sub(r"[^\w.-]+", "_", PurePosixPath(name).stem)[:_LONGEST_NAME]
