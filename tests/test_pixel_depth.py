"""Pictures of more than 8 bits a channel: right where the file says what white is, else refused; never black."""

import io
import re
import shlex
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from lesion_exp.errors import DataError
from lesion_exp.image_file import decode, read_image

SIGNED, FLOAT = 2, 3
GREY = np.linspace(0, 255, 60 * 40).reshape(40, 60)
"""A ramp; what a file of it must come back as."""


def grey_tiff(values, /, compression=None, **tags):
    names = {"low": 280, "high": 281, "s_low": 340, "s_high": 341}
    info = ImageFileDirectory_v2()
    for name, value in tags.items():
        if name.startswith("s_"):
            info.tagtype[names[name]] = 12
        info[names.get(name, 262)] = value
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF", tiffinfo=info, compression=compression)
    return buffer.getvalue()


def png(values):
    return cv2.imencode(".png", values)[1].tobytes()


def colour_tiff(values, high=None):
    """RGB uint16 as a TIFF without compression, with the tag MaxSampleValue in place of Software, or none."""
    found = bytearray(cv2.imencode(".tiff", values[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes())
    if high is not None:
        start = int.from_bytes(found[4:8], "little")
        for entry in range(start + 2, start + 2 + 12 * int.from_bytes(found[start : start + 2], "little"), 12):
            if int.from_bytes(found[entry : entry + 2], "little") == 278:  # RowsPerStrip comes before 280: keep order
                continue
            if int.from_bytes(found[entry : entry + 2], "little") == 339:  # SampleFormat: unsigned without it, too
                found[entry : entry + 12] = b"".join(n.to_bytes(2, "little") for n in (281, 3, 1, 0, high, 0))
    return bytes(found)


def close(encoded, expected=GREY, tolerance=1):
    decoded = decode(encoded).astype(int)
    expected = expected if expected.ndim == 3 else np.dstack([expected] * 3)
    return np.abs(decoded - expected).max() <= tolerance


def twelve(values=GREY):
    return np.round(values / 255 * 4095).astype(np.uint16)


@pytest.mark.parametrize(
    "encoded",
    [
        grey_tiff(twelve(), high=4095),
        grey_tiff(twelve(), s_high=4095.0),
        grey_tiff(twelve(), s_low=0.0, s_high=4095.0),
        grey_tiff(twelve() + 1000, low=1000, high=5095),
        grey_tiff((GREY * 257).astype(np.uint16), compression="tiff_lzw"),
        grey_tiff(twelve(255 - GREY), high=4095, photometric=0),
        grey_tiff((GREY * 257).astype(np.uint16)),
        grey_tiff(((255 - GREY) * 257).astype(np.uint16), photometric=0),
        grey_tiff((GREY * 257).astype(np.uint16), high=65535),
        grey_tiff((GREY / 255).astype(np.float32), s_low=0.0, s_high=1.0),
        grey_tiff((GREY / 255).astype(np.float32), s_high=1.0),
        grey_tiff((GREY / 255 * 2 - 1).astype(np.float32), s_low=-1.0, s_high=1.0),
        grey_tiff(GREY.astype(np.float32), high=255),
        grey_tiff((GREY * 1000).astype(np.int32), s_high=255000.0),
        png((GREY * 257).astype(np.uint16)),
    ],
)
def test_a_declared_range_is_used(encoded):
    assert close(encoded)


@pytest.mark.parametrize(
    "encoded",
    [
        grey_tiff(twelve()),
        grey_tiff((GREY * 4).astype(np.uint16)),
        grey_tiff((GREY * 64).astype(np.uint16)),
        grey_tiff(GREY.astype(np.uint16)),
        grey_tiff((GREY / 255).astype(np.float32)),
        grey_tiff(GREY.astype(np.float32)),
        grey_tiff(twelve().astype(np.int32)),
        grey_tiff(np.zeros((4, 4), np.uint16)),
        png(twelve()),
        png(np.dstack([twelve()] * 3)),
        png(np.dstack([*[twelve()] * 3, np.full_like(twelve(), 65535)])),
        colour_tiff(np.dstack([twelve()] * 3)),
    ],
)
def test_a_range_that_is_not_known_is_refused(encoded):
    with pytest.raises(DataError, match="declares which value is white, but the upload has"):
        decode(encoded)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tags", [{}, {"s_low": 0.0, "s_high": 1.0}])
def test_pixels_that_are_no_numbers_are_refused(bad, tags):
    values = (GREY / 255).astype(np.float32)
    values[3, 5] = bad
    with pytest.raises(DataError, match="NaN or infinite"):
        decode(grey_tiff(values, **tags))


@pytest.mark.parametrize(
    "encoded",
    [
        grey_tiff(twelve(), high=255),
        grey_tiff(GREY.astype(np.float32), s_high=1.0),
        grey_tiff((GREY - 100).astype(np.float32), high=255),
        grey_tiff(twelve(), low=9, high=9),
        grey_tiff(GREY.astype(np.float32), s_high=float("nan")),
    ],
)
def test_a_range_that_the_values_contradict_is_refused(encoded):
    with pytest.raises(DataError, match=r"expected (values from|a range of values)"):
        decode(encoded)


def colours(top):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (4, 6, 3)).astype(float)
    coarse[0, 0] = 255
    picture = np.kron(coarse, np.ones((10, 10, 1)))
    return picture, np.round(picture / 255 * top).astype(np.uint16)


def test_colours_of_16_bits_are_read():
    picture, values = colours(65535)
    for encoded in (png(values[..., ::-1]), colour_tiff(values), colour_tiff(values, high=65535)):
        assert close(encoded, picture)


def test_colours_of_12_bits_with_their_range_are_read():
    picture, values = colours(4095)
    assert close(colour_tiff(values, high=4095), picture)


def test_a_tiff_of_12_bits_declares_them_by_their_number():
    values = np.arange(0, 4096, 64, dtype=np.uint32).reshape(8, 8)
    packed = bytearray()
    for left, right in values.reshape(-1, 2):  # two values in three bytes
        packed += int(left << 12 | right).to_bytes(3, "big")
    entries = (
        (256, 8),
        (257, 8),
        (258, 12),
        (259, 1),
        (262, 1),
        (273, 8 + 2 + 9 * 12 + 4),
        (277, 1),
        (278, 8),
        (279, len(packed)),
    )
    head = b"II*\x00\x08\x00\x00\x00" + len(entries).to_bytes(2, "little")
    for tag, value in entries:
        head += tag.to_bytes(2, "little") + b"\x04\x00" + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
    assert close(head + bytes(4) + bytes(packed), values / 4095 * 255)


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("grey.tiff", grey_tiff(twelve())),
        ("grey.png", png(twelve())),
        ("colour.png", png(np.dstack([twelve()] * 3))),
        ("float.tiff", grey_tiff((GREY / 255).astype(np.float32))),
        ("ten.tiff", grey_tiff((GREY / 255 * 1023).astype(np.uint16))),
    ],
)
def test_the_remedy_works_when_it_is_typed(tmp_path, name, encoded):
    path = tmp_path / name
    path.write_bytes(encoded)
    with pytest.raises(DataError) as caught:
        read_image(str(path))
    typed = re.search(r"python -c .*", str(caught.value)).group().replace("FILE", str(path))
    command = shlex.split(typed.replace("NEW.png", str(tmp_path / "new.png")))
    subprocess.run([sys.executable, *command[1:]], check=True, timeout=60)
    assert close((tmp_path / "new.png").read_bytes())


def test_several_channels_of_floating_point_are_named():
    encoded = cv2.imencode(".tiff", np.dstack([GREY / 255] * 3).astype(np.float32))[1].tobytes()
    with pytest.raises(
        DataError, match="a TIFF file with a broken header, or with values of a kind that is not supported"
    ):
        decode(encoded)
