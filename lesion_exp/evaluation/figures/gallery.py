"""Galleries of images: a batch, predictions, and saliency maps drawn over lesions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from lesion_exp.evaluation.figures.style import GREY, labels, shortened, style

COLUMNS: Final = 8
TILE: Final = 168
"""The default side of an image, in pixels."""
_GAP, _LINE = 8, 17
_FONT_SIZE, _SMALL = 14, 11
PNG_LEVEL: Final = 3
"""How much PNG files are compressed: the default level, 6, takes twice as long for a tenth less bytes."""


def gallery(images: npt.NDArray[np.uint8], titles: Sequence[str], footer: str = "", tile: int = TILE) -> Image.Image:
    """Draws images in rows of eight, with titles above them.

    Args:
        images: uint8 (N, S, S, 3), RGB.
        titles: the titles of the images, in one or several lines. The middle of a line that is too long is left out,
            so that its end, such as a probability, remains visible.
        footer: text below all images.
        tile: side of a drawn image in pixels.
    """
    columns, rows = min(COLUMNS, len(images)), ceil(len(images) / COLUMNS)
    lines = max(title.count("\n") + 1 for title in titles)
    head = lines * _LINE + 5
    tall = rows * (tile + head + _GAP) + _GAP
    sheet = Image.new("RGB", (columns * (tile + _GAP) + _GAP, tall + (_LINE if footer else 0)), "white")
    pencil, font = ImageDraw.Draw(sheet), _font(_FONT_SIZE)
    for place, (pixels, title) in enumerate(zip(images, titles, strict=True)):
        left, top = _GAP + place % COLUMNS * (tile + _GAP), _GAP + place // COLUMNS * (tile + head + _GAP)
        for number, line in enumerate(title.split("\n")):
            pencil.text((left, top + number * _LINE), _fitting(line, font, tile), fill="black", font=font)
        sheet.paste(Image.fromarray(pixels).resize((tile, tile), Image.Resampling.BICUBIC), (left, top + head))
    if footer:
        small = _font(_SMALL)
        pencil.text((_GAP, tall - 4), _fitting(footer, small, sheet.width - 2 * _GAP), fill=GREY, font=small)
    return sheet


def _fitting(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Returns `line`, without its middle if it is wider than `width` pixels."""
    if font.getlength(line) <= width:
        return line
    ways = (shortened(line, length) for length in range(len(line) - 1, 2, -1))
    return next(way for way in ways if font.getlength(way) <= width)


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


_WIDTH: Final = 21
"""The largest number of letters in a line above an image."""


def image_batch(images: npt.NDArray[np.uint8], titles: Sequence[str], columns: int = COLUMNS) -> Figure:
    """Draws images, uint8 (N, S, S, 3) RGB, in rows of `columns`, with titles of at most two lines above them."""
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


Picture = npt.NDArray[np.uint8]
_CELL: Final = 1.45
_HEAD: Final = 0.56
"""The height of a block's title and of the captions of its images, in inches."""
_LEGEND: Final = "saliency from none (grey) over low (blue) to the highest of the image (red); outline: lesion mask"
_SPACE: Final = 0.14


@dataclass(frozen=True)
class Block:
    """Images side by side, with rows of saliency maps below them."""

    title: str
    captions: Sequence[str]
    """The captions above the images."""
    rows: Sequence[tuple[str, Sequence[Picture]]]
    """The label of each row and its pictures, uint8 (S, S, 3)."""
    masks: Sequence[npt.NDArray[np.bool_] | None]
    """The lesion mask of each image, bool (S, S), drawn as an outline; None without a mask."""
    empty: str = ""
    """The text that replaces the images if there are none."""


def saliency_gallery(blocks: Sequence[Block], title: str, columns: int) -> Figure:
    """Draws the `blocks` from top to bottom, with up to `columns` images each."""
    heights = [_HEAD + _CELL * len(block.rows) + _SPACE if block.captions else 0.3 for block in blocks]
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
        for colour, line in (("black", 1.4), ("white", 0.7)):  # visible on light and dark skin
            axes.contour(mask, levels=[0.5], colors=colour, linewidths=line)
    axes.axis("off")
