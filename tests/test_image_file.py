import io
import zipfile

import h5py
import numpy as np
import pytest
from PIL import Image

from lesion_exp import image_file
from lesion_exp.errors import DataError
from lesion_exp.image_file import beginning, decode, fit, read_bytes, read_image, read_mask


def picture(height=40, width=60):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((10, 10, 1), np.uint8))


def encoded(pixels, fmt="PNG", mode=None, **options):
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, fmt, **options)
    return buffer.getvalue()


def test_a_png_comes_back_exactly():
    assert np.array_equal(decode(encoded(picture())), picture())


def test_grey_becomes_three_equal_channels():
    grey = picture()[..., 0]
    assert np.array_equal(decode(encoded(grey)), np.dstack([grey] * 3))


def test_cmyk_is_converted():
    decoded = decode(encoded(picture(), "JPEG", "CMYK", quality=100))
    assert np.abs(decoded.astype(int) - picture()).mean() < 4


def test_sixteen_bits_are_scaled_not_clipped():
    deep = picture()[..., 0].astype(np.uint16) * 257
    assert np.array_equal(decode(encoded(deep))[..., 0], picture()[..., 0])


def test_transparency_is_laid_on_white():
    rgba = np.dstack([picture(), np.zeros(picture().shape[:2], np.uint8)])
    assert (decode(encoded(rgba)) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation):
    upright = picture()
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 1)[:, ::-1].transpose(1, 0, 2)[::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    if orientation == 7:
        turned = upright[::-1, ::-1].transpose(1, 0, 2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode(encoded(np.ascontiguousarray(turned), exif=exif)), upright)


def test_shortest_side_keeps_the_aspect_and_never_enlarges():
    assert fit(picture(), 20).shape == (20, 30, 3)
    assert fit(picture(), 400).shape == (40, 60, 3)


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_a_truncated_file_is_refused(fmt):
    whole = encoded(picture(200, 300), fmt)
    with pytest.raises(DataError, match="the upload cannot be decoded"):
        decode(whole[: len(whole) * 2 // 3])


@pytest.mark.parametrize("junk", [b"", b"not an image", b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_what_is_no_image_is_refused(junk):
    with pytest.raises(DataError, match=r"is empty|begins with '"):
        decode(junk)


@pytest.mark.parametrize(
    ("encoded", "shown"),
    [
        (b"GIF89a\x01\x00\x01\x00\x80\x00\xff", "'GIF89a...'"),
        (b"\x00\x00\x00\x18ftypheic\x00", "'....ftypheic...'"),
        (b"no image", "'no image'"),
        (b"it's text of some length", "'it's text of...'"),
        (bytes(3), "the bytes 00 00 00"),
        ("\N{HIRAGANA LETTER A}".encode() * 9, "the bytes e3 81 82 e3 81 82 e3 81 82 e3 81 82"),
    ],
)
def test_the_beginning_of_a_file_is_told_in_plain_words(encoded, shown):
    assert beginning(encoded) == shown


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(image_file, "MAX_PIXELS", 100)
    with pytest.raises(DataError, match="at most 100 pixels"):
        decode(encoded(picture()))


def test_members_of_zip_hdf5_and_npz_are_read(tmp_path):
    jpeg = encoded(picture(), "JPEG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inner/x.jpg", jpeg)
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file["ISIC_1"] = np.void(jpeg)
    np.savez(tmp_path / "c.npz", train_images=np.stack([picture(), 255 - picture()]))
    expected = decode(jpeg)
    assert read_bytes(f"{tmp_path}/a.zip!/inner/x.jpg") == jpeg
    assert np.array_equal(read_image(f"{tmp_path}/a.zip!/inner/x.jpg"), expected)
    assert np.array_equal(read_image(f"{tmp_path}/b.hdf5!/ISIC_1"), expected)
    assert np.array_equal(read_image(f"{tmp_path}/c.npz!/train_images/1"), 255 - picture())


@pytest.mark.parametrize("locator", ["absent.jpg", "a.zip!/absent.jpg", "absent.zip!/x.jpg", "a.rar!/x.jpg"])
def test_a_missing_file_or_member_is_a_data_error(tmp_path, locator):
    with zipfile.ZipFile(tmp_path / "a.zip", "w"):
        pass
    with pytest.raises(DataError, match="expected"):
        read_bytes(f"{tmp_path}/{locator}")


def test_a_mask_is_binary_and_takes_the_shape_asked_for(tmp_path):
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40] = 1
    Image.fromarray(mask * 255).save(tmp_path / "m.png")
    read = read_mask(str(tmp_path / "m.png"), (20, 30))
    assert read.shape == (20, 30)
    assert set(np.unique(read)) == {0, 255}
    assert read[10, 15] == 255
    assert read[0, 0] == 0
