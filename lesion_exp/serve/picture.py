"""What an upload must be before anything of it is decoded: judged by its content, never by its name."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Final

from PIL import Image

from lesion_exp.image_file import beginning
from lesion_exp.serve.refusal import Refusal

TYPES: Final[Mapping[str, str]] = {
    "JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "BMP": "image/bmp", "TIFF": "image/tiff",
}  # fmt: skip
"""The formats that are taken, by Pillow's names."""
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
    kind = sniff(encoded)
    if kind is None:
        what = "is empty" if not encoded else f"is none: it begins with {beginning(encoded)}"
        raise Refusal(415, f"expected a {_listed()} file, but {name} {what}")
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


def sniff(encoded: bytes) -> str | None:
    """The format that the first bytes are of; None for what is not taken."""
    if encoded.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if encoded.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP":
        return "WEBP"
    if encoded.startswith((b"II*\x00", b"MM\x00*")):
        return "TIFF"
    return "BMP" if encoded.startswith(b"BM") else None


def _size(encoded: bytes, kind: str, name: str, max_pixels: int) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(encoded), formats=[kind]) as image:
            return image.size
    except Image.DecompressionBombError as error:
        raise Refusal(413, f"expected at most {max_pixels:,} pixels, but {name} has far more") from error
    except Exception as error:  # Pillow's readers raise whatever a broken file provokes
        raise Refusal(422, f"expected a whole image, but the header of {name} ({kind}) cannot be read") from error


def _listed() -> str:
    *first, last = TYPES
    return f"{', '.join(first)} or {last}"
