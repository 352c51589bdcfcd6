"""What kind of file some bytes are, told by how they begin: the formats that are decoded, and names for all others.

Only these formats are ever handed to Pillow. Left to choose, it would try all of its readers, and one of them gives
PostScript to another program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

FORMATS: Final[Mapping[str, str]] = {
    "JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "BMP": "image/bmp", "TIFF": "image/tiff",
}  # fmt: skip
"""The formats that are decoded: Pillow's names and the media types."""
IMAGE_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".heic", ".heif"}
)
"""Endings, in lower case, of the files that count as images; those of HEIC need the extra `heic` to be decoded."""

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
_SEEN: Final = 512
"""Bytes at the beginning that are looked at."""
_HEADER: Final = 16
"""Bytes at the beginning in which binary formats have a zero."""
_BLANKS: Final = dict.fromkeys(map(ord, "\t\n\r\f"), " ")


def image_format(encoded: bytes) -> str | None:
    """The format of `FORMATS` that the first bytes are of; None for what is not decoded."""
    if encoded.startswith(b"RIFF"):
        return "WEBP" if encoded[8:12] == b"WEBP" else None
    return next((name for start, name in _IMAGES if encoded.startswith(start)), None)


def is_heif(encoded: bytes) -> bool:
    """Whether the first bytes are those of a HEIC photograph, as telephones take them."""
    return encoded[4:8] == b"ftyp" and _BRANDS.get(encoded[8:12]) == "a HEIC file"


def kind_of(encoded: bytes) -> str:
    """What to call a file in a message. No byte of it is repeated: the file may be one that nobody should see."""
    if not encoded:
        return "an empty file"
    known = known_kind(encoded)
    if known is not None:
        return known
    head = _head(encoded)
    return "a file of an unknown kind" if b"\x00" in head or not _is_text(head) else "a text file"


def known_kind(encoded: bytes) -> str | None:
    """What to call a file whose first bytes say what it is; None for plain text, and for what is not known."""
    name = image_format(encoded)
    is_binary = b"\x00" in encoded[:_HEADER]  # the two bytes of BMP begin texts, too
    if name is not None and (name != "BMP" or is_binary):
        return f"a {name} file"
    if encoded[4:8] == b"ftyp" and is_binary:
        return _BRANDS.get(encoded[8:12], "a film")
    for start, kind in _OTHERS:
        if encoded.startswith(start):
            return kind
    head = _head(encoded)
    if head.startswith(b"<") and b"<svg" in head:
        return "an SVG drawing"
    return "a web page" if head.startswith((b"<!doctype html", b"<html")) else None


def listed_formats() -> str:
    """The formats for a message."""
    *first, last = FORMATS
    return f"{', '.join(first)} or {last}"


def _head(encoded: bytes) -> bytes:
    return encoded[:_SEEN].lstrip(b"\xef\xbb\xbf \t\r\n").lower()


def _is_text(head: bytes) -> bool:
    for cut in range(4):  # the last character may be cut in two
        try:
            text = head[: len(head) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return bool(text) and text.translate(_BLANKS).isprintable()
    return False
