import ast
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from lesion_exp import image_file
from lesion_exp.errors import DataError
from lesion_exp.image_file import (
    check_mask,
    decode,
    file_and_image_size,
    fit,
    is_reduced,
    read_bytes,
    read_image,
    read_mask,
)


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
    with pytest.raises(DataError, match=r"is an empty file|is a text file|is an SVG drawing"):
        decode(junk)


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


def test_a_mask_of_zeros_and_ones_is_not_an_empty_one(tmp_path):
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40] = 1
    for values, name in ((mask, "8.png"), (mask.astype(np.uint16), "16.png"), (mask.astype(np.float32), "f.tiff")):
        Image.fromarray(values).save(tmp_path / name)
        assert np.array_equal(read_mask(str(tmp_path / name), (40, 60)), mask * 255), name


@pytest.mark.parametrize("value", [1, 2, 127])
def test_a_mask_of_zeros_and_one_dark_value_has_its_lesion(tmp_path, value):
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40] = value
    Image.fromarray(mask).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(str(tmp_path / "m.png"), (40, 60)) > 0, mask > 0)


def test_a_mask_of_several_dark_values_is_refused(tmp_path):
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40], mask[15:20, 25:30] = 1, 2
    Image.fromarray(mask).save(tmp_path / "m.png")
    with pytest.raises(DataError, match="whose values are 1, 2 beside 0"):
        read_mask(str(tmp_path / "m.png"), (40, 60))


@pytest.mark.parametrize("kind", ["white", "black", "half", "LA", "P", "opaque"])
def test_transparent_pixels_of_a_mask_are_outside_of_the_lesion(tmp_path, kind):
    lesion = np.zeros((40, 60), bool)
    lesion[10:30, 20:40] = True
    opacity = np.where(lesion, 120 if kind == "half" else 255, 0).astype(np.uint8)
    white = np.full((40, 60), 255, np.uint8)
    if kind == "LA":
        image = Image.merge("LA", [Image.fromarray(white), Image.fromarray(opacity)])
    elif kind == "P":
        image = Image.fromarray(lesion.astype(np.uint8), "P")
        image.putpalette([0, 0, 0, 255, 255, 255])
    elif kind == "opaque":
        image = Image.fromarray(np.where(lesion, white, 0).astype(np.uint8)).convert("RGBA")
    else:
        colour = np.zeros((40, 60, 3), np.uint8) if kind == "black" else np.repeat(white[:, :, None], 3, axis=2)
        image = Image.fromarray(np.dstack([colour, opacity]))
    image.save(tmp_path / "m.png", **({"transparency": 0} if kind == "P" else {}))
    assert np.array_equal(read_mask(str(tmp_path / "m.png"), (40, 60)) > 0, lesion)


def test_a_mask_of_several_colours_is_white_where_it_is_visible(tmp_path):
    pixels = np.zeros((40, 60, 4), np.uint8)
    pixels[:, :, :3] = 255
    pixels[5:35, 5:55] = (0, 0, 0, 255)
    pixels[10:30, 20:40] = 255
    Image.fromarray(pixels).save(tmp_path / "m.png")
    found = read_mask(str(tmp_path / "m.png"), (40, 60))
    assert found[10:30, 20:40].all()
    assert (found > 0).sum() == 400


@pytest.mark.parametrize(
    ("colour", "rim", "is_refused"), [(0, 255, True), (90, 200, True), (255, 255, False), (0, 0, False)]
)
def test_a_dark_picture_with_a_hole_is_refused_since_the_lesion_may_be_either(tmp_path, colour, rim, is_refused):
    """A layer with the lesion cut out. A white one, and one that leaves a corner free, are read as usual."""
    pixels = np.full((40, 60, 4), colour, np.uint8)
    pixels[:, :, 3] = 255
    pixels[10:30, 20:40, 3] = 0
    pixels[0, 0, 3] = rim
    Image.fromarray(pixels).save(tmp_path / "m.png")
    if is_refused:
        with pytest.raises(DataError, match=r"got a dark picture with transparent pixels inside in .*m\.png"):
            read_mask(str(tmp_path / "m.png"), (40, 60))
    else:
        assert np.array_equal(read_mask(str(tmp_path / "m.png"), (40, 60)) > 0, pixels[:, :, 3] > 0)


def test_an_empty_mask_is_empty_and_is_refused_where_it_is_needed(tmp_path):
    for kind in (np.uint8, np.uint16):
        Image.fromarray(np.zeros((40, 60), kind)).save(tmp_path / "m.png")
        read = read_mask(str(tmp_path / "m.png"), (40, 60))
        assert not read.any()
        with pytest.raises(DataError, match=r"a lesion in the mask m\.png"):
            check_mask(read, "m.png")


@pytest.mark.parametrize(
    ("shape", "fits"),
    [((40, 60), True), ((20, 30), True), ((3, 4), True), ((301, 450), True), ((60, 40), False), ((40, 40), False)],
)
def test_a_mask_has_the_proportions_of_its_image_but_for_a_pixel(tmp_path, shape, fits):
    mask = np.full((40, 60), 255, np.uint8)
    Image.fromarray(mask).save(tmp_path / "m.png")
    if fits:
        assert read_mask(str(tmp_path / "m.png"), shape).shape == shape
    else:
        with pytest.raises(DataError, match=f"with {shape[1]} x {shape[0]} pixels .* got 60 x 40"):
            read_mask(str(tmp_path / "m.png"), shape)
    assert read_mask(str(tmp_path / "m.png"), shape, any_proportions=True).shape == shape


def test_postscript_is_never_handed_to_its_interpreter(tmp_path, monkeypatch):
    def run(*_, **__):
        raise AssertionError("a program was started")

    for name in ("run", "Popen", "check_call", "check_output", "call"):
        monkeypatch.setattr(subprocess, name, run)
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n(%pipe%touch run) (r) file\n%%EOF\n"
    path = tmp_path / "photo.jpg"
    path.write_bytes(script)
    for read in (read_image, file_and_image_size, lambda it: decode(Path(it).read_bytes())):
        with pytest.raises(DataError, match="is a PostScript file"):
            read(str(path))


@pytest.mark.parametrize("kind", ["GIF", "PPM", "PCX", "TGA", "ICO", "SGI", "DDS", "IM", "MSP", "XBM"])
def test_other_formats_of_pillow_are_refused_whatever_they_are_called(kind):
    content = encoded(picture()[..., 0], kind, "1" if kind in {"MSP", "XBM"} else None)
    with pytest.raises(DataError, match="convert it, or leave it out"):
        decode(content, name="photo.jpg")


def test_every_place_that_opens_images_names_the_formats():
    top = Path(image_file.__file__).parents[1]
    opened = 0
    for path in [*top.glob("lesion_exp/**/*.py"), *top.glob("scripts/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"Image.open", "PIL.Image.open"}:
                opened += 1
                assert "formats" in {keyword.arg for keyword in node.keywords}, f"{path}:{node.lineno}"
            assert ast.unparse(node.func) != "cv2.imread" if isinstance(node, ast.Call) else True, path
    assert opened >= 6


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "zero.png", ".", "pipe.zip!/a.jpg"):
        with pytest.raises(DataError, match="regular file"):
            read_image(f"{tmp_path}/{name}")


def test_a_file_that_grows_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(image_file, "MAX_BYTES", 100)
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    with pytest.raises(DataError, match="at most 100 bytes"):
        read_bytes(str(tmp_path / "a.png"))
    with pytest.raises(DataError, match="at most 100 bytes"):
        read_bytes("/proc/self/smaps")  # says that it has no bytes


def test_an_hdf5_file_cannot_lead_elsewhere(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_bytes(b"root:secret" * 3)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["a"] = np.void(encoded(picture()))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("group")["inner"] = np.void(encoded(picture()))
        file["soft"] = h5py.SoftLink("/group/inner")
        file["external"] = h5py.ExternalLink("other.h5", "/a")
        file.create_dataset("raw", (33,), "u1", external=[(str(secret), 0, 33)])
        layout = h5py.VirtualLayout((4,), "u1")
        layout[:] = h5py.VirtualSource("other.h5", "a", (4,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("huge", (2**40,), "u1", chunks=(2**20,))
        file["pixels"] = picture()
    assert np.array_equal(read_image(f"{tmp_path}/a.h5!/group/inner"), picture())
    for name in ("group", "soft", "external", "raw", "virtual", "huge", "pixels", "absent", "group/inner/x", ""):
        with pytest.raises(DataError) as caught:
            read_image(f"{tmp_path}/a.h5!/{name}")
        assert "root:" not in str(caught.value)


@pytest.mark.parametrize(
    "array",
    [picture() / 255, picture().astype(np.uint16) * 16, np.full((4, 4, 3), np.nan), np.zeros((4, 4, 4), np.uint8),
     np.zeros((5,), np.uint8), np.zeros((4, 4), bool), np.array(["a"] * 3)],
)  # fmt: skip
def test_an_npz_of_anything_but_8_bit_pixels_is_refused(tmp_path, array):
    np.savez(tmp_path / "a.npz", images=array[None])
    for name in ("images/0", "images/7", "images/x", "absent/0"):
        with pytest.raises(DataError, match="expected"):
            read_image(f"{tmp_path}/a.npz!/{name}")


def test_an_npz_of_wider_numbers_that_fit_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", images=picture().astype(np.int64)[None])
    assert np.array_equal(read_image(f"{tmp_path}/a.npz!/images/0"), picture())


def test_a_heic_photograph_names_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DataError, match="pip install pillow-heif"):
        decode(b"\x00\x00\x00\x1cftypheic" + bytes(40))


def test_a_heic_photograph_is_decoded():
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    written = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 10, 10)).save(written, "HEIF")
    assert decode(written.getvalue()).shape == (48, 64, 3)


def photograph(height=450, width=600, mode="RGB", orientation=1):
    """A JPEG file of smooth colours."""
    coarse = np.random.default_rng(3).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


def refuse_the_usual_way(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("decoded at full size")

    monkeypatch.setattr(image_file, "_decoded", refuse)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(("height", "width"), [(450, 600), (451, 601), (603, 450), (300, 1000)])
@pytest.mark.parametrize("side", [50, 70, 140])
def test_a_large_jpeg_is_reduced_while_it_is_decoded(monkeypatch, mode, height, width, side, tmp_path):
    file = photograph(height, width, mode)
    (tmp_path / "file").write_bytes(file)
    assert is_reduced(str(tmp_path / "file"), side)
    usual = decode(file, side)
    refuse_the_usual_way(monkeypatch)
    reduced = decode(file, side, reduced=True)
    assert reduced.shape == usual.shape
    assert np.abs(reduced.astype(int) - usual).mean() < 2.5


@pytest.mark.parametrize(
    ("file", "side"),
    [
        (photograph(), 226),
        (photograph(), None),
        (photograph(orientation=6), 100),
        (photograph(mode="CMYK"), 100),
        (encoded(np.kron(picture(), np.ones((4, 4, 1), np.uint8))), 40),
    ],
    ids=["too small", "no size", "turned by EXIF", "CMYK", "PNG"],
)
def test_what_cannot_be_reduced_is_decoded_as_usual(file, side, tmp_path):
    assert np.array_equal(decode(file, side, reduced=True), decode(file, side))
    (tmp_path / "file").write_bytes(file)
    assert side is None or not is_reduced(str(tmp_path / "file"), side)


def test_a_broken_jpeg_has_the_same_message_when_it_is_reduced():
    for broken in (photograph()[:5000], b"\xff\xd8\xff" + bytes(100), b"text"):
        messages = []
        for reduced in (False, True):
            with pytest.raises(DataError) as caught:
                decode(broken, 100, "a.jpg", reduced=reduced)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


def test_an_empty_file_of_the_kernel_is_read_to_its_end():
    assert read_bytes("/proc/self/status").startswith(b"Name:")
