"""Recognises the kind of a file by its first bytes: the image formats that are decoded, and names for other kinds.

Only these formats are ever given to Pillow. Otherwise Pillow would try all of its readers, one of which hands
PostScript to an external program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

FORMATS: Final[Mapping[str, str]] = {
    "JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "BMP": "image/bmp", "TIFF": "image/tiff",
}  # fmt: skip
"""The image formats that are decoded: Pillow's name -> media type."""
IMAGE_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".heic", ".heif"}
)
"""Endings, in lower case, of the files that count as images. Decoding HEIC needs the extra `heic`."""

_IMAGES: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"BM", "BMP"),
)
_OTHERS: Final = (
    (b"GIF8", "a GIF file"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"%PDF", "a PDF document"),
    (b"{\\rtf", "a rich text document"),
    (b"PK\x03\x04", "an Excel workbook or a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook or Word document"),
    (b"\x1f\x8b", "a gzip file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"PAR1", "a parquet file"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"II+\x00", "a BigTIFF file"),
    (b"MM\x00+", "a BigTIFF file"),
    (b"8BPS", "a Photoshop file"),
    (b"\x00\x00\x00\x0cjP", "a JPEG 2000 file"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 file"),
)
_BRANDS: Final = {b"avif": "an AVIF file", b"heic": "a HEIC file", b"heix": "a HEIC file", b"mif1": "a HEIC file"}
_HEAD_BYTES: Final = 512
"""Bytes at the beginning of a file that are examined."""
_HEADER: Final = 16
"""Bytes at the beginning of a file in which every binary format has a zero."""
_BLANKS: Final = dict.fromkeys(map(ord, "\t\n\r\f"), " ")


def image_format(encoded: bytes) -> str | None:
    """Returns the key of `FORMATS` that the first bytes indicate, or None if this project does not decode the file."""
    if encoded.startswith(b"RIFF"):
        return "WEBP" if encoded[8:12] == b"WEBP" else None
    return next((name for start, name in _IMAGES if encoded.startswith(start)), None)


def is_heif(encoded: bytes) -> bool:
    """Returns whether the first bytes are those of a HEIC photograph, the format of many phones."""
    return encoded[4:8] == b"ftyp" and _BRANDS.get(encoded[8:12]) == "a HEIC file"


def kind_of(encoded: bytes) -> str:
    """Returns a name for this kind of file, for messages.

    The name repeats no byte of the file, because the file may be confidential.
    """
    if not encoded:
        return "an empty file"
    known = known_kind(encoded)
    if known is not None:
        return known
    head = _head(encoded)
    return "a file of an unknown kind" if b"\x00" in head or not _is_text(head) else "a text file"


def known_kind(encoded: bytes) -> str | None:
    """Returns a name for this kind of file if its first bytes identify it; None for plain text and unknown kinds."""
    name = image_format(encoded)
    is_binary = b"\x00" in encoded[:_HEADER]  # a text may begin with the two bytes of BMP
    if name is not None and (name != "BMP" or is_binary):
        return f"a {name} file"
    if encoded[4:8] == b"ftyp" and is_binary:
        return _BRANDS.get(encoded[8:12], "a video file")
    for start, kind in _OTHERS:
        if encoded.startswith(start):
            return kind
    head = _head(encoded)
    if head.startswith(b"<") and b"<svg" in head:
        return "an SVG drawing"
    return "a web page" if head.startswith((b"<!doctype html", b"<html")) else None


def listed_formats() -> str:
    """Returns the names of the formats that are decoded, for messages."""
    *first, last = FORMATS
    return f"{', '.join(first)} or {last}"


def _head(encoded: bytes) -> bytes:
    return encoded[:_HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()


def _is_text(head: bytes) -> bool:
    for cut in range(4):  # the head may end in the middle of a character
        try:
            text = head[: len(head) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return bool(text) and text.translate(_BLANKS).isprintable()
    return False
