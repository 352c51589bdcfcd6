"""A picture for each image: where a network sees the evidence for the class that it predicts."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from lesion_exp.errors import DataError
from lesion_exp.evaluation.figures.gallery import gallery
from lesion_exp.evaluation.figures.labels import labels
from lesion_exp.explanation.overlay import overlay
from lesion_exp.image_file import UInt8Array
from lesion_exp.model.heat_maps import SaliencyMaps, enlarged, square_of
from lesion_exp.model.predictor import Batch, Predictor

COLUMN: Final = "gradcam"
"""Of the results: the path of the picture."""
_LONGEST_NAME: Final = 100
_TITLE_WIDTH: Final = 26
"""Of a line above a picture, letters."""


class HeatMaps:
    """Draws into `folder` what the network sees, and beside it the Grad-CAM map of the class that it predicts, with the
    class and its probability.

    To be used where torch may compute gradients: not in its inference mode.
    """

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        self.evidence = SaliencyMaps(predictor)
        self.classes = predictor.classes
        self.labels = dict(zip(self.classes, labels(self.classes, _TITLE_WIDTH, 2), strict=True))
        self.folder = folder

    def add(self, table: pd.DataFrame, batch: Batch, first: int) -> pd.DataFrame:
        """`table` (what was predicted of `batch`, whose first image is number `first` of all) with the pictures' paths,
        which are drawn.

        Raises:
            DataError: a picture cannot be written.
        """
        paths: list[str | None] = [None] * len(table)
        if batch.sample is not None:
            readable = [row for row, error in enumerate(batch.errors) if not error]
            targets = [self.classes.index(name) if name in self.classes else None for name in table["prediction"]]
            maps = self.evidence.maps(batch.sample, [targets[row] or 0 for row in readable])
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
        self, square: UInt8Array, evidence: npt.NDArray[np.floating[Any]], name: str, titles: tuple[str, str]
    ) -> str:
        path = self.folder / name
        picture = evidence_picture(square, evidence, titles)
        try:
            picture.save(path)
        except OSError as error:
            raise DataError(f"expected to write a picture to {path}, but: {error}") from error
        return str(path)


def evidence_picture(
    square: UInt8Array, evidence: npt.NDArray[np.floating[Any]], titles: tuple[str, str]
) -> Image.Image:
    """`square`, uint8 (S, S, 3) RGB, and beside it the map `evidence`, float (h, w), over it, below their titles."""
    seen = enlarged(square)
    return gallery(np.stack([seen, overlay(seen, evidence)]), titles, tile=len(seen))


def _stem(name: str) -> str:
    """The file's name as part of another one."""
    return re.sub(r"[^\w.-]+", "_", PurePosixPath(name).stem)[:_LONGEST_NAME]
