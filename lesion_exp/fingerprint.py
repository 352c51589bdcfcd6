"""Image fingerprints that survive saving again: a 64-bit perceptual hash and a small grey thumbnail."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from lesion_exp.image_file import UInt8Array

Float64Array = npt.NDArray[np.float64]

HASH_SIDE: Final = 8
"""The hash has a bit for each of 8 x 8 spatial frequencies."""
THUMBNAIL_SIDE: Final = 16
_SQUARE: Final = 32
_SUMMED_SIDE: Final = 128
"""Pixels of the shorter side from which on averaging areas by an integral image is faster than `cv2.resize`."""
_SUMMED_VALUES: Final = 2**23
"""Values in an image up to which its integral image needs little memory and its sums fit in 32 bits."""


def fingerprint(image: UInt8Array) -> tuple[int, bytes]:
    """Returns the perceptual hash (64 bits) and the thumbnail (16 x 16 bytes) of `image`, uint8 (H, W, 3) RGB."""
    square = _grey_square(image)
    return _hash(square), _thumbnail(square)


def _grey_square(image: UInt8Array) -> UInt8Array:
    """Returns `image` as uint8 (32, 32) grey levels. Averaging areas also removes noise and JPEG blocks."""
    assert image.ndim == 3, f"an RGB image is (H, W, 3), not {image.shape}"
    assert image.shape[2] == 3, f"an RGB image is (H, W, 3), not {image.shape}"
    if min(image.shape[:2]) >= _SUMMED_SIDE and image.size <= _SUMMED_VALUES:
        small = np.rint(_area_means(image)).astype(np.uint8)
    else:
        small = np.asarray(cv2.resize(image, (_SQUARE, _SQUARE), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _area_means(image: UInt8Array) -> Float64Array:
    """Returns the means of 32 x 32 equal areas of `image`, (32, 32, 3).

    They are the values that cv2.INTER_AREA rounds, in a third of its time. Between two pixels the integral image is
    bilinear, so an area may begin anywhere.
    """
    height, width = image.shape[:2]
    (rows, below), (columns, beyond) = _edges(height), _edges(width)
    around = cv2.integral(image).take(rows, axis=0).take(columns, axis=1)
    edges = _SQUARE + 1
    on_rows = around[:edges] + below[:, None, None] * (around[edges:] - around[:edges])
    corners = on_rows[:, :edges] + beyond[:, None] * (on_rows[:, edges:] - on_rows[:, :edges])
    bands = corners[1:] - corners[:-1]
    return np.asarray((bands[:, 1:] - bands[:, :-1]) * (_SQUARE**2 / (height * width)))


@lru_cache(maxsize=64)
def _edges(length: int) -> tuple[npt.NDArray[np.intp], Float64Array]:
    """Returns the edges of 32 equal parts of `length` pixels.

    The first array, (66,), holds the number of whole pixels before each of the 33 edges, then the same numbers plus
    one. The second, (33,), holds the fraction of a pixel by which each edge lies beyond them.
    """
    edges = np.arange(_SQUARE + 1, dtype=np.float64) * (length / _SQUARE)
    before = np.minimum(edges.astype(np.intp), length - 1)
    return np.concatenate([before, before + 1]), edges - before


def _hash(square: UInt8Array) -> int:
    """Returns the signs of the cosine transform of `square`, uint8 (32, 32), at frequencies 1 to 8 of each axis.

    Bit `8 * (v - 1) + (u - 1)` belongs to the frequency (v, u) of rows and columns. The frequencies 0 are left out, so
    that neither brightness nor uneven lighting matters. Mirroring an image changes the signs of the odd frequencies,
    and transposing it exchanges the axes, so the hashes of all eight symmetries follow from one of them.

    Source of the DCT hash: Zauner 2010, "Implementation and benchmarking of perceptual image hash functions".
    """
    frequencies = cv2.dct(square.astype(np.float32))[1 : HASH_SIDE + 1, 1 : HASH_SIDE + 1]
    bits = np.packbits(frequencies.reshape(-1) > 0, bitorder="little")
    return int.from_bytes(bits.tobytes(), "little")


def _thumbnail(square: UInt8Array) -> bytes:
    """Returns `square`, uint8 (32, 32), reduced to 16 x 16 grey pixels, one byte each, row by row."""
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.asarray(cv2.resize(square, side, interpolation=cv2.INTER_AREA), dtype=np.uint8).tobytes()
