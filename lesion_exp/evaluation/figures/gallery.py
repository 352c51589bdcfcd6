"""Images side by side with a line of text above each; drawn without axes, so that it costs a run next to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

COLUMNS: Final = 8
TILE: Final = 168
"""Side of an image in pixels."""
_GAP, _TEXT = 8, 22
_FONT_SIZE: Final = 14


def gallery(images: npt.NDArray[np.uint8], titles: Sequence[str]) -> Image.Image:
    """`images`, uint8 (N, S, S, 3) RGB, in rows of eight; a title that is too long for its image is cut."""
    columns, rows = min(COLUMNS, len(images)), ceil(len(images) / COLUMNS)
    sheet = Image.new("RGB", (columns * (TILE + _GAP) + _GAP, rows * (TILE + _TEXT + _GAP) + _GAP), "white")
    pencil, font = ImageDraw.Draw(sheet), _font()
    for place, (pixels, title) in enumerate(zip(images, titles, strict=True)):
        left, top = _GAP + place % COLUMNS * (TILE + _GAP), _GAP + place // COLUMNS * (TILE + _TEXT + _GAP)
        pencil.text((left, top), _fitting(title, font), fill="black", font=font)
        sheet.paste(Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.BICUBIC), (left, top + _TEXT))
    return sheet


def _fitting(title: str, font: ImageFont.FreeTypeFont) -> str:
    if font.getlength(title) <= TILE:
        return title
    length = next(length for length in range(len(title), -1, -1) if font.getlength(f"{title[:length]}…") <= TILE)
    return f"{title[:length]}…"


def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), _FONT_SIZE)
