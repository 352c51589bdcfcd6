"""What makes an image recognisable after it was saved again: a 64-bit perceptual hash and a tiny grey picture."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from lesion_exp.image_file import UInt8Array

HASH_SIDE: Final = 8
"""The hash has a bit for each of 8 x 8 spatial frequencies."""
THUMBNAIL_SIDE: Final = 16
_SQUARE: Final = 32


def fingerprint(image: UInt8Array) -> tuple[int, bytes]:
    """The perceptual hash and the thumbnail of `image`, uint8 (H, W, 3) RGB."""
    square = _grey_square(image)
    return _hash(square), _thumbnail(square)


def perceptual_hash(image: UInt8Array) -> int:
    """64 bits: the signs of the cosine transform of `image`, uint8 (H, W, 3) RGB, at frequencies 1 to 8 on each axis.

    Bit `8 * (v - 1) + (u - 1)` belongs to the frequency (v, u) of rows and columns. The frequencies 0 are left out:
    brightness, and light that falls off to one side, do not count. A mirrored image has the signs of the odd
    frequencies turned, a transposed one has the axes exchanged, so the hashes of all eight symmetries follow from one.
    (The idea of the DCT hash: Zauner 2010, "Implementation and benchmarking of perceptual image hash functions".)
    """
    return _hash(_grey_square(image))


def thumbnail(image: UInt8Array) -> bytes:
    """`image`, uint8 (H, W, 3) RGB, as 16 x 16 grey pixels, one byte each, row by row; its aspect is not kept."""
    return _thumbnail(_grey_square(image))


def _grey_square(image: UInt8Array) -> UInt8Array:
    """uint8 (32, 32); areas are averaged, which also blurs away noise and JPEG blocks."""
    assert image.ndim == 3, f"an RGB image is (H, W, 3), not {image.shape}"
    assert image.shape[2] == 3, f"an RGB image is (H, W, 3), not {image.shape}"
    small = cv2.resize(image, (_SQUARE, _SQUARE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _hash(square: UInt8Array) -> int:
    frequencies = cv2.dct(square.astype(np.float32))[1 : HASH_SIDE + 1, 1 : HASH_SIDE + 1]
    bits = np.packbits(frequencies.reshape(-1) > 0, bitorder="little")
    return int.from_bytes(bits.tobytes(), "little")


def _thumbnail(square: UInt8Array) -> bytes:
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.asarray(cv2.resize(square, side, interpolation=cv2.INTER_AREA), dtype=np.uint8).tobytes()
