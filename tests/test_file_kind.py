import pytest

from lesion_exp.file_kind import FORMATS, image_format, kind_of, listed_formats


@pytest.mark.parametrize(
    ("encoded", "shown"),
    [
        (b"", "an empty file"),
        (b"\xff\xd8\xff\xe0", "a JPEG file"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "a WEBP file"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "a file of an unknown kind"),
        (b"GIF89a\x01\x00\x01\x00\x80\x00\xff", "a GIF file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "a PostScript file"),
        (b"%PDF-1.7", "a PDF document"),
        (b"PK\x03\x04rest", "an Excel workbook or a zip archive"),
        (b"7z\xbc\xaf\x27\x1c\x00", "a 7z archive"),
        (b"BM\x36\x00\x00\x00\x00\x00", "a BMP file"),
        (b"\x00\x00\x00\x18ftypheic\x00", "a HEIC file"),
        (b"\x00\x00\x00\x18ftypisom\x00", "a video file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html>", "a web page"),
        (b"root:$y$j9T$secret:19000:0:99999:7:::\n", "a text file"),
        ("\N{HIRAGANA LETTER A}".encode() * 400, "a text file"),
        (bytes(3), "a file of an unknown kind"),
        (b"\x80\xad\xbe\xef", "a file of an unknown kind"),
    ],
)
def test_a_file_is_called_by_its_kind_and_none_of_it_is_repeated(encoded, shown):
    assert kind_of(encoded) == shown
    assert "secret" not in kind_of(encoded)


def test_the_formats_are_an_explicit_list():
    assert set(FORMATS) == {"JPEG", "PNG", "WEBP", "BMP", "TIFF"}
    assert image_format(b"MM\x00*") == "TIFF"
    assert listed_formats() == "JPEG, PNG, WEBP, BMP or TIFF"
