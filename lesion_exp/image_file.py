"""The one place where an image file is read, decoded and resized.

A *locator* says where an image lies: a path (`/data/a.jpg`), or a container and a member joined by `!/`
(`/data/images.zip!/a.jpg`, `/data/train.hdf5!/ISIC_0015670`, `/data/dermamnist.npz!/train_images/17`).
Checks, image store, prediction and server all read through here, so that an image means the same to all of them.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from lesion_exp.errors import DataError

UInt8Array = npt.NDArray[np.uint8]

SEPARATOR: Final = "!/"
IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
HDF5_SUFFIXES: Final = frozenset({".hdf5", ".h5"})
MAX_PIXELS: Final = 178_956_970
"""Largest accepted image in pixels: Pillow's own limit against decompression bombs."""

MAX_BYTES: Final = 2**30
"""Largest accepted file, and largest member of a zip once it is unpacked, in bytes."""

_SHOWN_BYTES: Final = 12

cv2.setNumThreads(0)  # workers are processes: a pool of threads in each would oversubscribe the cores


def read_bytes(locator: str) -> bytes:
    """The encoded bytes at `locator`; for an npz member, the bytes of its pixels.

    Raises:
        DataError: nothing can be read there.
    """
    container, separator, member = locator.partition(SEPARATOR)
    try:
        if not separator:
            _check_size(locator, Path(locator).stat().st_size)
            return Path(locator).read_bytes()
        suffix = Path(container).suffix.lower()
        if suffix == ".zip":
            archive, lock = _zip(container, os.getpid())
            with lock:
                _check_size(locator, archive.getinfo(member).file_size)
                return archive.read(member)
        if suffix in HDF5_SUFFIXES:
            return bytes(np.asarray(_hdf5(container, os.getpid())[member][()]).tobytes())
        if suffix == ".npz":
            return _npz_image(container, member).tobytes()
    except DataError:
        raise
    except (OSError, LookupError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"expected an image at {locator}, but it cannot be read: {error}") from error
    raise DataError(f"expected a zip, hdf5 or npz container before '!/', got {locator}")


def _check_size(locator: str, num_bytes: int) -> None:
    if num_bytes > MAX_BYTES:
        raise DataError(f"expected an image file of at most {MAX_BYTES:,} bytes, but {locator} has {num_bytes:,}")


def read_image(locator: str, shortest_side: int | None = None) -> UInt8Array:
    """The image at `locator`, uint8 (H, W, 3) RGB, upright by its EXIF orientation.

    With `shortest_side` (pixels) it is scaled down, aspect kept, so that the shorter side has that length;
    an image that is smaller already keeps its size.

    Raises:
        DataError: the file is missing, truncated, too large or no image.
    """
    container, separator, member = locator.partition(SEPARATOR)
    if separator and container.lower().endswith(".npz"):
        return fit(_as_rgb(_npz_image(container, member)), shortest_side)
    return decode(read_bytes(locator), shortest_side, name=locator)


def decode(encoded: bytes, shortest_side: int | None = None, name: str = "the upload") -> UInt8Array:
    """The encoded image as uint8 (H, W, 3) RGB, upright, scaled down to `shortest_side` pixels if that is given.

    Raises:
        DataError: `encoded` is truncated, too large or no image; `name` says which.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"expected an image of at most {MAX_PIXELS:,} pixels, but {name} has "
                    f"{image.width} x {image.height}; scale it down first"
                )
            ImageOps.exif_transpose(image, in_place=True)
            pixels = _to_rgb(image)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"expected an image of at most {MAX_PIXELS:,} pixels, but {name} has far more") from error
    except UnidentifiedImageError as error:
        what = "is empty" if not encoded else f"begins with {beginning(encoded)}, as no image does"
        raise DataError(f"expected an image, but {name} {what}") from error
    except Exception as error:  # Pillow's readers raise whatever a broken file provokes
        raise DataError(
            f"expected an image, but {name} cannot be decoded: {str(error) or type(error).__name__}"
        ) from error
    return fit(pixels, shortest_side)


def beginning(encoded: bytes) -> str:
    """The first bytes of a file for a message: as text, with dots for what is none, or in hexadecimal."""
    head = encoded[:_SHOWN_BYTES]
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in head)
    if sum(map(str.isalnum, text)) < len(head) // 2:
        return f"the bytes {head.hex(' ')}"
    return f"'{text}'" if len(encoded) == len(head) else f"'{text.rstrip('.')}...'"


def file_facts(locator: str) -> tuple[int, int, int]:
    """Size of the encoded image in bytes, and its width and height in pixels as its header says them.

    Raises:
        DataError: nothing can be read there, or it is no image.
    """
    encoded = read_bytes(locator)
    container, separator, member = locator.partition(SEPARATOR)
    if separator and container.lower().endswith(".npz"):
        height, width = _npz_image(container, member).shape[:2]
        return len(encoded), width, height
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return len(encoded), image.width, image.height
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"expected an image at {locator}, but its header cannot be read: {error}") from error


def fit(image: UInt8Array, shortest_side: int | None) -> UInt8Array:
    """`image`, uint8 (H, W) or (H, W, C), scaled down so that its shorter side has `shortest_side` pixels."""
    height, width = image.shape[:2]
    if shortest_side is None or min(height, width) <= shortest_side:
        return image
    scale = shortest_side / min(height, width)
    size = (max(round(width * scale), shortest_side), max(round(height * scale), shortest_side))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def read_mask(locator: str, shape: tuple[int, int]) -> UInt8Array:
    """The lesion mask at `locator`, uint8 (H, W) of 0 or 255, resized to `shape` (height, width in pixels)."""
    grey = read_image(locator).max(axis=2)
    if grey.shape != shape:
        grey = np.asarray(cv2.resize(grey, shape[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return np.where(grey > 127, 255, 0).astype(np.uint8)


def content_hash(encoded: bytes) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    return hashlib.sha256(encoded).hexdigest()


def _to_rgb(image: Image.Image) -> UInt8Array:
    if image.mode.startswith(("I", "F")):  # 16 and 32 bit: Pillow would clip instead of scaling
        values = np.array(image, dtype=np.float64)
        values /= 65535.0 if values.max(initial=0) > 255 else 255.0  # in place: the image may be large
        values *= 255.0
        values += 0.5
        return _as_rgb(np.clip(values, 0, 255, out=values).astype(np.uint8))
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        opaque = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(opaque, image.convert("RGBA"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)


def _as_rgb(pixels: UInt8Array) -> UInt8Array:
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), dtype=np.uint8)


# Open containers, one a process (the key holds the process id: handles must not be shared across a fork).


@lru_cache(maxsize=64)
def _zip(path: str, process: int) -> tuple[zipfile.ZipFile, threading.Lock]:
    return zipfile.ZipFile(path), threading.Lock()


@lru_cache(maxsize=16)
def _hdf5(path: str, process: int) -> Any:
    import h5py

    return h5py.File(path, "r")


@lru_cache(maxsize=8)
def _npz_array(path: str, key: str) -> UInt8Array:
    with np.load(path, allow_pickle=False) as archive:
        return np.asarray(archive[key])


def _npz_image(path: str, member: str) -> UInt8Array:
    key, _, index = member.rpartition("/")
    return np.asarray(_npz_array(path, key)[int(index)], dtype=np.uint8)
