"""A picture for each image: where a network sees the evidence for the class that it predicts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image

from lesion_exp.data.lesion_dataset import Sample
from lesion_exp.errors import DataError
from lesion_exp.evaluation.figures.gallery import gallery
from lesion_exp.evaluation.figures.labels import labels
from lesion_exp.explanation.grad_cam import GradCam
from lesion_exp.explanation.network import ExplainedNetwork
from lesion_exp.explanation.overlay import overlay
from lesion_exp.image_file import UInt8Array
from lesion_exp.predict.predictor import Batch, Predictor

COLUMN: Final = "gradcam"
"""Of the results: the path of the picture."""
_SMALLEST: Final = 224
"""Shortest side of a picture in pixels; the squares of small networks are enlarged for it."""
_LONGEST_NAME: Final = 100
_TITLE_WIDTH: Final = 26
"""Of a line above a picture, letters."""


class EvidenceMaps:
    """Grad-CAM maps of the squares that a network sees, and pictures of both.

    To be used where torch may compute gradients: not in its inference mode. `layer` is the dotted name of another one
    than the last whose maps are used.
    """

    def __init__(self, predictor: Predictor, layer: str | None = None) -> None:
        self.classifier = predictor.classifier
        self.method = GradCam(layer)

    def maps(self, sample: Sample, targets: Sequence[int]) -> npt.NDArray[np.float32]:
        """The evidence for the class `targets` (positions) of each image of a stacked sample, float32 (N, S, S)."""
        images = self.classifier.normalize(sample["image"])
        companions = {"metadata": sample["metadata"]} if "metadata" in sample else {}
        if "clinical" in sample:
            companions["clinical"] = self.classifier.normalize(sample["clinical"])
        network = ExplainedNetwork(self.classifier, self.classifier.backbone.body, companions)
        with torch.autocast(images.device.type, enabled=False):  # gradients of half precision are coarse
            found = self.method(network, images, torch.tensor(targets, device=images.device))
        return np.asarray(found.cpu().numpy(), dtype=np.float32)


class HeatMaps:
    """Draws into `folder` what the network sees, and beside it the Grad-CAM map of the class that it predicts, with the
    class and its probability.

    To be used where torch may compute gradients: not in its inference mode.
    """

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        self.evidence = EvidenceMaps(predictor)
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


def square_of(sample: Sample, place: int) -> UInt8Array:
    """What the network sees of an image of a stacked sample, uint8 (S, S, 3) RGB."""
    square: UInt8Array = sample["image"][place, :3].permute(1, 2, 0).cpu().numpy()
    return square


def square_png(square: UInt8Array) -> bytes:
    """`square`, uint8 (S, S, 3) RGB, as a PNG file, enlarged where it is small."""
    return bytes(cv2.imencode(".png", cv2.cvtColor(_enlarged(square), cv2.COLOR_RGB2BGR))[1].tobytes())


def heat_map_png(square: UInt8Array, evidence: npt.NDArray[np.floating[Any]]) -> bytes:
    """The map `evidence`, float (h, w), drawn over `square`, uint8 (S, S, 3) RGB, as a PNG file of the same size."""
    return square_png(overlay(_enlarged(square), evidence))


def evidence_picture(
    square: UInt8Array, evidence: npt.NDArray[np.floating[Any]], titles: tuple[str, str]
) -> Image.Image:
    """`square`, uint8 (S, S, 3) RGB, and beside it the map `evidence`, float (h, w), over it, below their titles."""
    seen = _enlarged(square)
    return gallery(np.stack([seen, overlay(seen, evidence)]), titles, tile=len(seen))


def _enlarged(square: UInt8Array) -> UInt8Array:
    side = max(square.shape[0], _SMALLEST)
    return np.asarray(cv2.resize(square, (side, side), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _stem(name: str) -> str:
    """The file's name as part of another one."""
    return re.sub(r"[^\w.-]+", "_", PurePosixPath(name).stem)[:_LONGEST_NAME]
