"""Reads, decodes and resizes image files.

A *locator* says where an image lies: a path, or a container and a member (see `lesion_exp.archive`). Checks, image
store, prediction and server all read images with this module, so that they all see the same pixels.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from lesion_exp.archive import open_archive, split_locator
from lesion_exp.errors import DataError, not_installed
from lesion_exp.file_kind import FORMATS, image_format, is_heif, kind_of, listed_formats
from lesion_exp.pixel_depth import depth_of, to_eight_bits

UInt8Array = npt.NDArray[np.uint8]

HDF5_SUFFIXES: Final = frozenset({".hdf5", ".h5"})
MAX_PIXELS: Final = 178_956_970
"""Largest accepted image in pixels: Pillow's limit against decompression bombs."""
MAX_BYTES: Final = 2**30
"""Largest accepted file, and largest unpacked member of a zip, in bytes."""
_SIGNATURE: Final = 16
"""Bytes at the beginning of a file that identify its format."""
_UNREADABLE: Final = (
    OSError, LookupError, ValueError, TypeError, RuntimeError, MemoryError, EOFError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""The exceptions that the readers of files and containers raise."""

_REDUCED: Final = {
    factor: mode & ~cv2.IMREAD_COLOR | cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    for factor, mode in (
        (8, cv2.IMREAD_REDUCED_COLOR_8),
        (4, cv2.IMREAD_REDUCED_COLOR_4),
        (2, cv2.IMREAD_REDUCED_COLOR_2),
    )
}
"""Factor by which a JPEG is reduced while it is decoded -> the flags of OpenCV."""
_HALF: Final = 127
"""The brightest value of a mask that is not the lesion."""
_ORIENTATION: Final = 0x0112
"""EXIF's number of the orientation; 1 is upright."""

cv2.setNumThreads(0)  # workers are processes; a pool of threads in each of them would oversubscribe the cores


def read_bytes(locator: str) -> bytes:
    """Returns the encoded bytes at `locator`; for a member of an npz file, the bytes of its pixels.

    Raises:
        DataError: the file cannot be read, is too large, or is not a regular file (a pipe or a device may never end).
    """
    container, member = split_locator(locator)
    try:
        if not container:
            return _read_file(locator)
        suffix = Path(container).suffix.lower()
        if suffix == ".zip":
            archive = open_archive(container)
            _check_size(locator, archive.size(member))
            return archive.read(member)
        if suffix in HDF5_SUFFIXES:
            return _hdf5_entry(container, member, locator)
        if suffix == ".npz":
            return _npz_image(container, member, locator).tobytes()
    except DataError:
        raise
    except _UNREADABLE as error:
        raise DataError(
            f"expected a file at {locator}, but it cannot be read: {error}; correct the path, or restore the file"
        ) from error
    raise DataError(f"expected a zip, hdf5 or npz container before '!/', got {locator}; correct the path")


def check_image_file(path: str, max_bytes: int) -> None:
    """Checks that a path from a request names a regular file of a known image format with at most `max_bytes`.

    The message is the same for everything else, so that requests cannot find out which files exist.

    Raises:
        DataError: there is no such file.
    """
    try:
        with _open_regular(path) as file:
            is_image = image_format(file.read(_SIGNATURE)) is not None
            if is_image and os.fstat(file.fileno()).st_size <= max_bytes:
                return
    except (OSError, ValueError):  # also the DataError of a pipe, a device or a folder
        pass
    raise DataError(f"expected the path of a {listed_formats()} file of at most {max_bytes:,} bytes, got {path!r}")


def _read_file(path: str) -> bytes:
    with _open_regular(path) as file:
        num_bytes = os.fstat(file.fileno()).st_size
        _check_size(path, num_bytes)
        encoded = file.read(num_bytes + 1)  # `read` takes memory for as many bytes as it may return
        if len(encoded) > num_bytes:  # the file has grown, or is one of the kernel's, which have no size
            encoded += file.read(MAX_BYTES + 1 - len(encoded))
    _check_size(path, len(encoded))
    return encoded


def _open_regular(path: str) -> BinaryIO:
    """Opens the file at `path` for reading, unless it is a pipe, a device or a folder."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for a writer
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DataError(f"expected a regular file at {path}, got a folder, pipe or device; name the file itself")
    return os.fdopen(handle, "rb")


def _check_size(locator: str, num_bytes: int) -> None:
    if num_bytes > MAX_BYTES:
        raise DataError(
            f"expected an image file of at most {MAX_BYTES:,} bytes, but {locator} has {num_bytes:,}; reduce the image"
        )


def read_image(locator: str, shortest_side: int | None = None, *, reduced: bool = False) -> UInt8Array:
    """Reads the image at `locator` as uint8 (H, W, 3) RGB, rotated by its EXIF orientation.

    Args:
        locator: where the image lies.
        shortest_side: length in pixels to which the shorter side is scaled down, with the aspect ratio unchanged. A
            smaller image keeps its size, and so does every image with None.
        reduced: as for `decode`.

    Raises:
        DataError: the file is missing, truncated, too large or not an image.
    """
    container, member = split_locator(locator)
    if container.lower().endswith(".npz"):
        return fit(_as_rgb(_npz_image(container, member, locator)), shortest_side)
    return decode(read_bytes(locator), shortest_side, locator, reduced=reduced)


def decode(
    encoded: bytes, shortest_side: int | None = None, name: str = "the upload", *, reduced: bool = False
) -> UInt8Array:
    """Decodes an image to uint8 (H, W, 3) RGB, rotated by its EXIF orientation.

    Args:
        encoded: the bytes of the image file.
        shortest_side: as for `read_image`.
        name: what messages call the image.
        reduced: whether a JPEG whose shorter side is at least twice `shortest_side` is decoded at a half, a quarter or
            an eighth of its size, which takes half of the time for decoding and scaling. Its size is the same, its
            pixels are not: they come from the low frequencies of each block. Photographs that EXIF turns are decoded as
            usual, and so are other formats.

    Raises:
        DataError: the image is truncated, too large, not an image, or of more than 8 bits a channel without saying
            which value is white.
    """
    if reduced and shortest_side is not None:
        small = _reduced(encoded, shortest_side)
        if small is not None:
            return small
    return fit(_decoded(encoded, name, is_mask=False), shortest_side)


def is_reduced(locator: str, shortest_side: int) -> bool:
    """Returns whether `read_image` with `reduced` reduces the image at `locator` while it decodes it.

    Raises:
        DataError: the file cannot be read.
    """
    if split_locator(locator)[0].lower().endswith(".npz"):
        return False
    return _size_and_factor(read_bytes(locator), shortest_side)[2] > 1


def _reduced(encoded: bytes, shortest_side: int) -> UInt8Array | None:
    """Returns a JPEG that is reduced while it is decoded and then scaled to `shortest_side`.

    Returns None where the image must be decoded as usual, which also says what is wrong with a broken file.
    """
    width, height, factor = _size_and_factor(encoded, shortest_side)
    if factor == 1:
        return None
    try:
        small = cv2.imdecode(np.frombuffer(encoded, np.uint8), _REDUCED[factor])  # None if the file is truncated
    except cv2.error:
        return None
    if small is None or small.shape[:2] != (-(-height // factor), -(-width // factor)):
        return None
    rows, columns = fitted_shape(height, width, shortest_side)
    # between a half and the whole size, linear interpolation uses every pixel, in a fraction of the time of averaging
    method = cv2.INTER_LINEAR if small.shape[0] < 2 * rows else cv2.INTER_AREA
    return np.asarray(cv2.resize(small, (columns, rows), interpolation=method), dtype=np.uint8)


def _size_and_factor(encoded: bytes, shortest_side: int) -> tuple[int, int, int]:
    """Returns width and height of a JPEG and the factor by which it is reduced while it is decoded.

    The factor is 1 for an image that is decoded as usual.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG",)) as image:
            width, height = image.size
            upright = image.getexif().get(_ORIENTATION, 1) == 1
            is_usual = image.format == "JPEG" and image.mode in {"RGB", "L"} and width * height <= MAX_PIXELS
    except Exception:  # Pillow's readers raise whatever a broken file provokes
        return 0, 0, 1
    return width, height, _factor(width, height, shortest_side) if upright and is_usual else 1


def _factor(width: int, height: int, shortest_side: int) -> int:
    """Returns the largest factor of reduction that leaves `shortest_side` pixels and moves no edge noticeably.

    A side that is no multiple of the factor is rounded up, and its last pixel then covers less of the image. Half a
    pixel of the result is allowed for that.
    """
    least = min(width, height)
    for factor in _REDUCED:
        beyond = max(-width % factor, -height % factor)
        if least >= factor * shortest_side and beyond * shortest_side <= least / 2:
            return factor
    return 1


def _decoded(encoded: bytes, name: str, *, is_mask: bool) -> UInt8Array:
    """Returns an image as uint8 (H, W, 3) RGB, or the brightness of a mask, uint8 (H, W)."""
    try:
        with Image.open(io.BytesIO(encoded), formats=_formats(encoded, name)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"expected an image of at most {MAX_PIXELS:,} pixels, but {name} has "
                    f"{image.width} x {image.height}; scale it down first"
                )
            depth = depth_of(image, name)
            ImageOps.exif_transpose(image, in_place=True)
            shown = image if depth is None else to_eight_bits(image, depth, encoded, name, is_mask=is_mask)
            return _mask_brightness(shown, name) if is_mask else _to_rgb(shown)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(
            f"expected an image of at most {MAX_PIXELS:,} pixels, but {name} has far more; scale it down first"
        ) from error
    except UnidentifiedImageError as error:
        raise DataError(_unidentified(encoded, name)) from error
    except Exception as error:  # Pillow's readers raise whatever a broken file provokes
        raise DataError(
            f"expected an image, but {name} cannot be decoded: {str(error) or type(error).__name__}; replace the "
            f"file, or leave it out"
        ) from error


def _formats(encoded: bytes, name: str) -> tuple[str, ...]:
    """Returns the formats that Pillow may try: those of `FORMATS`, or HEIF alone if the first bytes indicate it."""
    if not is_heif(encoded):
        return tuple(FORMATS)
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise DataError(str(not_installed("pillow-heif", f"HEIC photographs such as {name}"))) from error
    register_heif_opener()
    return ("HEIF",)


def _unidentified(encoded: bytes, name: str) -> str:
    if image_format(encoded) is None:
        return f"expected an image ({listed_formats()}), but {name} is {kind_of(encoded)}; convert it, or leave it out"
    return (
        f"expected an image, but {name} is {kind_of(encoded)} with a broken header, or with values of a kind that is "
        f"not supported, such as several floating-point channels; save it again as PNG or JPEG"
    )


def file_and_image_size(locator: str) -> tuple[int, int, int]:
    """Returns the size of the encoded image in bytes, and its width and height in pixels from its header.

    Raises:
        DataError: the file cannot be read or is not an image.
    """
    encoded = read_bytes(locator)
    container, member = split_locator(locator)
    if container.lower().endswith(".npz"):
        height, width = _npz_image(container, member, locator).shape[:2]
        return len(encoded), width, height
    try:
        with Image.open(io.BytesIO(encoded), formats=_formats(encoded, locator)) as image:
            return len(encoded), image.width, image.height
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(_unidentified(encoded, locator)) from error
    except Exception as error:  # as in `_decoded`
        raise DataError(
            f"expected an image at {locator}, but its header cannot be read: {error}; replace the file, or leave it out"
        ) from error


def fit(image: UInt8Array, shortest_side: int | None) -> UInt8Array:
    """Scales `image`, uint8 (H, W) or (H, W, C), down so that its shorter side has `shortest_side` pixels.

    A smaller image is returned unchanged, and so is every image with None.
    """
    if shortest_side is None or min(image.shape[:2]) <= shortest_side:
        return image
    rows, columns = fitted_shape(image.shape[0], image.shape[1], shortest_side)
    return np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def fitted_shape(height: int, width: int, shortest_side: int) -> tuple[int, int]:
    """Returns the height and width in pixels that `fit` gives an image of `height` x `width`."""
    least = min(height, width)
    if least <= shortest_side:
        return height, width
    scale = shortest_side / least
    return max(round(height * scale), shortest_side), max(round(width * scale), shortest_side)


def orientation_of(encoded: bytes) -> int:
    """Returns the EXIF orientation of an encoded image, 1 (upright) to 8; 1 if it states none, or is no image."""
    try:
        with Image.open(io.BytesIO(encoded), formats=_formats(encoded, "the image")) as image:
            return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # as in `_decoded`
        return 1


def read_mask(locator: str, shape: tuple[int, int], *, any_proportions: bool = False) -> UInt8Array:
    """Reads the lesion mask at `locator` as uint8 (H, W) of 0 or 255, resized to `shape` (height, width in pixels).

    Pixels brighter than half of white belong to the lesion. In a file of zeros and one darker value, such as 1, the
    pixels with that value do. Transparent pixels are outside of the lesion. A mask may be empty, see `check_mask`.

    Args:
        locator: where the mask lies.
        shape: height and width of its image.
        any_proportions: whether the mask may have other proportions than `shape`, and is then stretched.

    Raises:
        DataError: as for `read_image`; or the mask has not the proportions of `shape`, or several values of which none
            is brighter than half of white, or is a dark picture with a transparent hole.
    """
    if split_locator(locator)[0].lower().endswith(".npz"):
        grey = read_image(locator).max(axis=2)
    else:
        grey = _decoded(read_bytes(locator), locator, is_mask=True)
    if not any_proportions:
        _check_proportions(locator, (grey.shape[0], grey.shape[1]), shape)
    if grey.max(initial=0) <= _HALF:
        grey = _whitened(grey, locator)
    if grey.shape != shape:
        grey = np.asarray(cv2.resize(grey, shape[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return np.where(grey > _HALF, 255, 0).astype(np.uint8)


def check_mask(mask: UInt8Array, locator: str) -> UInt8Array:
    """Returns `mask`, from `read_mask`, if it has a lesion.

    Raises:
        DataError: it has none.
    """
    if not mask.any():
        raise DataError(
            f"expected a lesion in the mask {locator}, but no pixel of it is brighter than half of white; draw the "
            f"lesion in white, or leave the image out"
        )
    return mask


def have_same_proportions(shape: tuple[int, int], other: tuple[int, int]) -> bool:
    """Returns whether two pictures, given by two lengths in pixels each, have the same proportions, but for one pixel
    of each.
    """
    return abs(shape[0] * other[1] - shape[1] * other[0]) <= max(shape) + max(other)


def _check_proportions(locator: str, found: tuple[int, int], shape: tuple[int, int]) -> None:
    """Checks that a mask of the height and width `found` fits an image of `shape`."""
    if not have_same_proportions(found, shape):
        raise DataError(
            f"expected a mask of the proportions of its image, which is read with {shape[1]} x {shape[0]} pixels "
            f"(width x height), got {found[1]} x {found[0]} in {locator}; if the photograph is turned by its EXIF "
            f"orientation, turn the mask too, else scale or crop it as the image was"
        )


def _whitened(grey: UInt8Array, locator: str) -> UInt8Array:
    """Returns a mask of one dark value with 255 in its place.

    Raises:
        DataError: it has several values.
    """
    values = np.unique(grey[grey > 0])
    if len(values) > 1:
        raise DataError(
            f"expected a mask with a white lesion on black, got {locator}, whose values are {_listed(values)} beside "
            f"0, all darker than half of white; save the lesion as 255 and everything else as 0"
        )
    return np.where(grey > 0, 255, 0).astype(np.uint8)


def _listed(values: UInt8Array) -> str:
    return ", ".join(map(str, values)) if len(values) <= 3 else f"{values[0]} to {values[-1]}"


def content_hash(encoded: bytes) -> str:
    """Returns the SHA-256 of a file's bytes, 64 hexadecimal digits."""
    return hashlib.sha256(encoded).hexdigest()


def file_hash(locator: str) -> str:
    """Returns the `content_hash` of the encoded image at `locator`.

    Raises:
        DataError: the file cannot be read.
    """
    return content_hash(read_bytes(locator))


def _to_rgb(image: Image.Image, background: str = "white") -> UInt8Array:
    if _has_transparency(image):
        opaque = Image.new("RGBA", image.size, background)
        image = Image.alpha_composite(opaque, image.convert("RGBA"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)


def _has_transparency(image: Image.Image) -> bool:
    return image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info


def _mask_brightness(image: Image.Image, name: str) -> UInt8Array:
    """Returns the brightness of a mask, uint8 (H, W), in which transparent pixels are black.

    If all visible pixels have one colour, the opacity is the mask: programs also save black lesions without a
    background.

    Raises:
        DataError: that colour is dark and covers the whole border of the picture, so that the lesion may be what it
            leaves free.
    """
    if _has_transparency(image):
        pixels = np.asarray(image.convert("RGBA"), dtype=np.uint8)
        opacity = pixels[:, :, 3]
        visible = pixels[opacity > 0, :3]
        if opacity.min() < opacity.max() and (visible == visible[0]).all():
            border = np.concatenate([opacity[[0, -1]].ravel(), opacity[:, [0, -1]].ravel()])
            if visible[0].max() <= _HALF < border.min():
                raise DataError(
                    f"expected a mask with a white lesion, got a dark picture with transparent pixels inside in "
                    f"{name}, in which the lesion may be the hole or its surroundings; fill the lesion with white and "
                    f"everything else with black"
                )
            return opacity
    return np.asarray(_to_rgb(image, "black").max(axis=2), dtype=np.uint8)


def _as_rgb(pixels: UInt8Array) -> UInt8Array:
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), dtype=np.uint8)


@lru_cache(maxsize=16)
def _hdf5(path: str, process: int) -> Any:
    """Opens an HDF5 file, once for each process id, because a fork must not share handles."""
    import h5py

    _open_regular(path).close()
    return h5py.File(path, "r")


def _hdf5_entry(path: str, member: str, locator: str) -> bytes:
    """Returns the encoded image in an entry of an HDF5 file; links to other files are not followed."""
    import h5py

    place = _hdf5(path, os.getpid())
    for part in member.split("/"):
        if not isinstance(place, h5py.Group) or not isinstance(place.get(part, getlink=True), h5py.HardLink):
            raise DataError(
                f"expected an entry of {path} at {locator}, but there is none, or it is a link to another file; "
                f"correct the name of the image, or copy the images into the file"
            )
        place = place[part]
    if not isinstance(place, h5py.Dataset) or place.is_virtual or place.external:
        raise DataError(
            f"expected an image at {locator}, got a group, or data that lie in another file; copy the images into "
            f"{path}"
        )
    if place.ndim > 1:
        raise DataError(
            f"expected an encoded image (a JPEG or PNG file) in {locator}, got an array of shape {place.shape}; encode "
            f"the images, or save them as files"
        )
    _check_size(locator, place.nbytes)
    encoded = bytes(np.asarray(place[()]).tobytes())
    _check_size(locator, len(encoded))
    return encoded


@lru_cache(maxsize=8)
def _npz_array(path: str, key: str) -> npt.NDArray[Any]:
    with np.load(_open_regular(path), allow_pickle=False) as archive:
        return np.asarray(archive[key])


def _npz_image(path: str, member: str, locator: str) -> UInt8Array:
    key, _, index = member.rpartition("/")
    try:
        pixels = np.asarray(_npz_array(path, key)[int(index)])
    except (
        OSError,
        LookupError,
        ValueError,
        TypeError,
        MemoryError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(
            f"expected an image at {locator}, but it cannot be read: {error}; correct the path, or download the file "
            f"again"
        ) from error
    is_picture = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in {1, 3})
    if pixels.dtype.kind not in "iu" or not is_picture or not pixels.size:
        raise DataError(
            f"expected pixels of 0 to 255 (uint8) of shape (H, W), (H, W, 1) or (H, W, 3) at {locator}, got "
            f"{pixels.dtype} of shape {pixels.shape}; save the array again in that form"
        )
    if pixels.min() < 0 or pixels.max() > 255:
        raise DataError(
            f"expected pixels of 0 to 255 at {locator}, got {pixels.min()} to {pixels.max()}; scale the array to 8 bits"
        )
    return pixels.astype(np.uint8, copy=False)
