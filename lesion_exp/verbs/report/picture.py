"""Pictures that travel inside the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Final

from PIL import Image

from lesion_exp.file_kind import FORMATS

WIDEST: Final = 1400
"""Pixels; more is not seen on a page."""
_QUALITY: Final = 82


def picture_address(path: Path) -> str | None:
    """The picture as a `data:` address, as JPEG of at most 1400 pixels width; None where it cannot be read."""
    try:
        with Image.open(path, formats=tuple(FORMATS)) as opened:
            image = opened.convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    if image.width > WIDEST:
        image = image.resize((WIDEST, max(1, round(image.height * WIDEST / image.width))), Image.Resampling.LANCZOS)
    paper = Image.new("RGB", image.size, "white")
    paper.paste(image, mask=image.getchannel("A"))
    buffer = io.BytesIO()
    paper.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
