"""The galleries of a method: for each class, images with right and wrong predictions and their saliency maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lesion_exp import taxonomy
from lesion_exp.evaluation.figures.gallery import Block, saliency_gallery
from lesion_exp.evaluation.figures.style import shortened
from lesion_exp.evaluation.predictions import IntArray, probabilities
from lesion_exp.explanation.localisation import FloatMap
from lesion_exp.explanation.overlay import overlay
from lesion_exp.verbs.explain.explained_part import KINDS, Kind, PartImages, Selection

_TITLE_LENGTH: Final = 72
Maps = Callable[[IntArray, str], list[FloatMap]]
"""A function from positions and the column with the explained class (`prediction` or `label`) to maps."""


def galleries(
    selection: Selection, table: pd.DataFrame, images: PartImages, maps: Maps, method: str, columns: int
) -> Iterator[tuple[str, Figure]]:
    """Yields the name and the gallery of each class in `selection`."""
    for name, kinds in selection.items():
        mine = table["label"] == name
        counts = {"right": int((mine & (table["prediction"] == name)).sum())}
        counts["wrong"] = int(mine.sum()) - counts["right"]
        blocks = [_block(kind, kinds[kind], counts, name, table, images, maps) for kind in KINDS]
        title = shortened(f"{method}: {name}, {taxonomy.full_name(name)}", _TITLE_LENGTH)
        yield name, saliency_gallery(blocks, title, columns)


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
            empty="all of them, or other images of their lesions, are shown above" if none_left else "none",
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
    return [overlay(image, saliency) for image, saliency in zip(images, maps, strict=True)]
