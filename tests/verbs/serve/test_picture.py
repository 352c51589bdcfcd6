import struct
import zlib

import pytest

from lesion_exp.file_kind import image_format
from lesion_exp.verbs.serve.intake import Refusal, check_picture
from tests.verbs.serve.conftest import picture

PIXELS = 100_000


def refused(encoded, max_pixels=PIXELS):
    with pytest.raises(Refusal) as caught:
        check_picture(encoded, "it", max_pixels)
    return caught.value.status


def header_of_png(width, height):
    """A PNG file that says how large it is, and holds nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    whole = struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + whole + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "bmp", "tiff"])
def test_photographs_pass_whatever_they_are_called(kind):
    encoded = picture(kind)
    assert image_format(encoded) == kind.upper()
    assert check_picture(encoded, "a.pdf", PIXELS) == 80 * 60


@pytest.mark.parametrize(
    "encoded",
    [b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"PK\x03\x04", b"GIF89a" + bytes(50),
     b"%!PS-Adobe-3.0 EPSF-3.0", b"\x00" * 100, b"RIFF\x00\x00\x00\x00WAVE", b"II+\x00" + bytes(40)],
)  # fmt: skip
def test_other_types_are_refused_by_their_content(encoded):
    assert refused(encoded) == 415


def test_bombs_are_refused_by_their_header():
    assert refused(header_of_png(60_000, 60_000)) == 413
    assert refused(header_of_png(400, 300)) == 413
    assert refused(picture(size=(400, 300))) == 413


def test_shapes_that_are_no_photograph_are_refused():
    assert refused(picture(size=(6, 61))) == 422
    assert refused(header_of_png(20_000, 16), 10**9) == 422


def test_small_images_pass_as_they_do_in_predict():
    assert check_picture(picture(size=(1, 1)), "dot.png", PIXELS) == 1


def test_broken_headers_are_refused():
    assert refused(b"\xff\xd8\xff\xe0" + bytes(100)) == 422
    assert refused(picture()[:20]) == 422


def test_endless_scans_are_refused():
    progressive = picture("jpeg", progressive=True)
    check_picture(progressive, "it", PIXELS)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    assert refused(progressive[:-2] + 200 * scan + progressive[-2:]) == 422
