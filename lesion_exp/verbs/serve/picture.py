"""What an upload must be before anything of it is decoded: judged by its content, never by its name."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image

from lesion_exp.file_kind import image_format, kind_of, listed_formats
from lesion_exp.verbs.serve.refusal import Refusal

LONGEST_SHAPE: Final = 10
"""Longer side over shorter side, at most: the network sees a square, to which a thin strip would be blown up."""
MOST_SCANS: Final = 100
"""Of a progressive JPEG, which usually has ten: each is a pass over all its pixels, and costs but a few bytes."""
_SCAN: Final = b"\xff\xda"


def check_picture(encoded: bytes, name: str, max_pixels: int) -> int:
    """How many pixels `encoded` has, if it may be decoded; only its first bytes and its header are looked at.

    Raises:
        Refusal: 415, no image of a known format; 413, too many pixels; 422, a broken header or a shape that is none of
            a photograph. `name` says which upload it is.
    """
    kind = image_format(encoded)
    if kind is None:
        raise Refusal(415, f"expected a {listed_formats()} file, but {name} is {kind_of(encoded)}; convert it")
    width, height = _size(encoded, kind, name, max_pixels)
    if width * height > max_pixels:
        raise Refusal(
            413, f"expected at most {max_pixels:,} pixels, but {name} has {width:,} x {height:,}; scale it down first"
        )
    if max(width, height) > LONGEST_SHAPE * min(width, height):
        raise Refusal(
            422,
            f"expected a photograph, at most {LONGEST_SHAPE} times as long as it is wide, but {name} has {width:,} x "
            f"{height:,} pixels; cut it",
        )
    if kind == "JPEG" and encoded.count(_SCAN) > MOST_SCANS:
        raise Refusal(422, f"expected at most {MOST_SCANS} scans in a JPEG file, but {name} has more; save it anew")
    return width * height


def _size(encoded: bytes, kind: str, name: str, max_pixels: int) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(encoded), formats=[kind]) as image:
            return image.size
    except Image.DecompressionBombError as error:
        raise Refusal(413, f"expected at most {max_pixels:,} pixels, but {name} has far more") from error
    except Exception as error:  # Pillow's readers raise whatever a broken file provokes
        raise Refusal(422, f"expected a whole image, but the header of {name} ({kind}) cannot be read") from error
