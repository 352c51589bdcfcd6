"""A batch of images as the network saw it."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from lesion_exp.evaluation.figures.labels import labels
from lesion_exp.evaluation.figures.style import style

COLUMNS = 8
_WIDTH = 21
"""Of a line above an image, letters."""


def image_batch(images: npt.NDArray[np.uint8], titles: Sequence[str], columns: int = COLUMNS) -> Figure:
    """`images`, uint8 (N, S, S, 3) RGB, in rows of `columns` with their `titles`, in two lines at most, above."""
    rows = ceil(len(images) / columns)
    fitting = labels(titles, _WIDTH, 2)
    with style():
        figure = Figure(figsize=(1.35 * columns, 1.65 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for axes, image, title in zip(grid.flat, images, fitting, strict=False):
            axes.imshow(image)
            axes.set_title(title, fontsize=7, fontweight="normal", loc="center")
    return figure
