"""Images of one class in blocks, each image above the maps of the evidence that was found in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lesion_exp.evaluation.figures.style import GREY, style

Picture = npt.NDArray[np.uint8]
_CELL: Final = 1.45
_HEAD: Final = 0.56
"""For a block's title and the captions of its images, inches."""
_LEGEND: Final = "evidence from none (grey) over blue to the most in the image (red); the outline is the lesion's mask"
_GAP: Final = 0.14


@dataclass(frozen=True)
class Block:
    """Images side by side, with rows of drawn maps below."""

    title: str
    captions: Sequence[str]
    """Above each image."""
    rows: Sequence[tuple[str, Sequence[Picture]]]
    """Each with what it shows; uint8 (S, S, 3)."""
    masks: Sequence[npt.NDArray[np.bool_] | None]
    """The lesion in each image, drawn as an outline; (S, S)."""
    empty: str = ""
    """What is said where there are no images."""


def evidence_gallery(blocks: Sequence[Block], title: str, columns: int) -> Figure:
    """The `blocks` one below the other, with up to `columns` images each."""
    heights = [_HEAD + _CELL * len(block.rows) + _GAP if block.captions else 0.3 for block in blocks]
    width = _CELL * max(columns, 3) + 1.1
    with style():
        figure = Figure(figsize=(width, sum(heights) + 0.7))
        inch = 1 / figure.get_figheight()
        figure.text(0.012, 1 - 0.1 * inch, title, fontsize=11, fontweight="bold", va="top")
        figure.text(0.012, 1 - 0.33 * inch, _LEGEND, fontsize=7.5, color=GREY, va="top")
        top = 1 - 0.65 * inch
        for block, height in zip(blocks, heights, strict=True):
            _draw(figure, block, top, width)
            top -= height * inch
    return figure


def _draw(figure: Figure, block: Block, top: float, width: float) -> None:
    inch = 1 / figure.get_figheight()
    text = block.title if block.captions else f"{block.title}: {block.empty}"
    figure.text(0.012, top, text, fontsize=9.5, va="top", color="black" if block.captions else GREY)
    for row, (label, pictures) in enumerate(block.rows):
        bottom = top - (_HEAD + _CELL * (row + 1)) * inch
        if pictures:
            figure.text(0.08, bottom + 0.48 * _CELL * inch, label, fontsize=7.5, color=GREY, rotation=90, ha="center",
                        va="center", linespacing=1.2)  # fmt: skip
        for column, picture in enumerate(pictures):
            left = (1.0 + _CELL * column) / width
            axes = figure.add_axes((left, bottom, 0.95 * _CELL / width, 0.95 * _CELL * inch))
            _show(axes, picture, block.masks[column])
            if row == 0:
                axes.set_title(block.captions[column], fontsize=7.5, fontweight="normal", loc="center", pad=3)


def _show(axes: Axes, picture: Picture, mask: npt.NDArray[np.bool_] | None) -> None:
    axes.imshow(picture, interpolation="nearest")
    if mask is not None and not mask.all():
        for colour, line in (("black", 1.4), ("white", 0.7)):  # seen on light and dark skin
            axes.contour(mask, levels=[0.5], colors=colour, linewidths=line)
    axes.axis("off")
