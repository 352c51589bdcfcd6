"""Images side by side with lines of text above each; drawn without axes, so that it costs a run next to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from lesion_exp.evaluation.figures.labels import shortened
from lesion_exp.evaluation.figures.style import GREY

COLUMNS: Final = 8
TILE: Final = 168
"""Side of an image in pixels, unless told otherwise."""
_GAP, _LINE = 8, 17
_FONT_SIZE, _SMALL = 14, 11


def gallery(images: npt.NDArray[np.uint8], titles: Sequence[str], footer: str = "", tile: int = TILE) -> Image.Image:
    """`images`, uint8 (N, S, S, 3) RGB, in rows of eight, `tile` pixels wide and high.

    A title may have several lines; a line that is too long for its image loses its middle, so that what stands at its
    end, such as a probability, is always seen. `footer` stands below all images.
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
    """`line`, without its middle where it is wider than `width` pixels."""
    if font.getlength(line) <= width:
        return line
    ways = (shortened(line, length) for length in range(len(line) - 1, 2, -1))
    return next(way for way in ways if font.getlength(way) <= width)


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
