"""Converts images of more than 8 bits a channel to 8 bits, by the range of values that the file declares.

The values alone do not say which of them is white. A camera of 12 bits often writes its values, from 0 to 4095, into a
file of 16 bits, and a program may write floating-point values from 0 to 1. Both would become black if they were scaled
by the range of the data type.

A file declares a range by its number of bits (12 in a TIFF of 12 bits), or by the TIFF tags SMaxSampleValue or
MaxSampleValue (with SMinSampleValue or MinSampleValue; else the range begins at 0). A file of 16 bits without these
tags is assumed to use all bits if some value needs more than 14 bits. Everything else is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from lesion_exp.errors import DataError

FULL: Final = 65535.0
"""The largest value of 16 bits."""
PLAUSIBLE: Final = 16384
"""An image that uses all 16 bits has some value of at least this, a quarter of white."""
_WHITE_IS_ZERO, _SEPARATE_PLANES, _UNSIGNED = 0, 2, 1
_BITS, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 262, 284, 339
_LOWS, _HIGHS = (340, 280), (341, 281)
_CHANNELS: Final = {"RGB": 3, "RGBA": 3, "CMYK": 4}
"""Pillow's mode -> the number of its channels that hold colour."""


@dataclass(frozen=True)
class Depth:
    """The values that a file declares for its pixels."""

    bits: int
    """Bits of a channel."""
    low: float
    """The value of black, or of white if `inverted`."""
    high: float | None
    """The other end of the range; None if the file does not declare it."""
    is_whole: bool
    """Whether the values are unsigned integers."""
    inverted: bool = False
    separate: bool = False
    """Whether each channel is stored in a separate plane."""


def depth_of(image: ImageFile.ImageFile, name: str) -> Depth | None:
    """Returns the declared values of an opened image, or None if it has at most 8 bits a channel.

    Args:
        image: the image; its pixels need not have been read.
        name: the file, for messages.

    Raises:
        DataError: the file declares an impossible range.
    """
    tags: Mapping[int, Any] | None = getattr(image, "tag_v2", None)
    if tags is None:
        is_wide = image.mode.startswith("I;16") or any(";16" in str(tile[3]) for tile in image.tile)
        if is_wide and image.format != "BMP":
            return Depth(16, 0.0, None, is_whole=True)
        return Depth(32, 0.0, None, is_whole=False) if image.mode in {"I", "F"} else None
    bits = int(max(_numbers(tags, _BITS, name) or [1]))
    if bits <= 8:
        return None
    is_whole = set(_numbers(tags, _SAMPLE_FORMAT, name) or [_UNSIGNED]) == {_UNSIGNED}
    lows = next((found for tag in _LOWS if (found := _numbers(tags, tag, name))), [0.0])
    highs = next((found for tag in _HIGHS if (found := _numbers(tags, tag, name))), [])
    if len(set(lows)) > 1 or len(set(highs)) > 1:
        raise DataError(f"expected one range of values for all channels, but {name} declares several; {_remedy(FULL)}")
    high = highs[0] if highs else None
    if high is None and is_whole and bits < 16:
        high = float(2**bits - 1)
    if high is not None and not (math.isfinite(lows[0]) and math.isfinite(high) and lows[0] < high):
        raise DataError(f"expected a range of values, but {name} declares {lows[0]:g} to {high:g}; {_remedy(FULL)}")
    return Depth(
        bits, lows[0], high, is_whole,
        inverted=tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO, separate=tags.get(_PLANES) == _SEPARATE_PLANES,
    )  # fmt: skip


def to_eight_bits(image: Image.Image, depth: Depth, encoded: bytes, name: str, *, is_mask: bool) -> Image.Image:
    """Returns the image with 8 bits a channel.

    Args:
        image: the image as Pillow gives it, upright: its values for one channel, else the upper 8 of 16 bits.
        depth: the declared values of the image.
        encoded: the bytes of the file.
        name: the file, for messages.
        is_mask: whether the image is a mask, in which the largest value counts as white.

    Raises:
        DataError: some values are NaN, infinite or outside the declared range, or no range is known.
    """
    if image.mode in _CHANNELS:
        return _colour(image, depth, encoded, name)
    if not image.mode.startswith(("I", "F")):
        raise _unread(depth, name)
    values: npt.NDArray[np.floating] = np.array(image, dtype=np.float64 if image.mode == "I" else np.float32)
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):  # a single NaN makes the minimum and the maximum NaN
        raise DataError(f"expected numbers as pixels, but {name} has some that are NaN or infinite; correct the file")
    if is_mask and depth.high is None:
        depth = Depth(depth.bits, min(low, 0.0), max(high, 1e-30), depth.is_whole, depth.inverted)
    white = _white(depth, high, name)
    _check_within(depth.low, white, low, high, name)
    return Image.fromarray(_scaled(values, depth, white))


def _colour(image: Image.Image, depth: Depth, encoded: bytes, name: str) -> Image.Image:
    if depth.bits != 16 or not depth.is_whole or depth.separate:
        raise _unread(depth, name)
    upper = np.asarray(image)
    if (depth.low, depth.high) == (0.0, FULL):
        return image
    if depth.high is None:
        _white(depth, 256.0 * float(upper[..., : _CHANNELS[image.mode]].max(initial=0)), name)
        return image
    read = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED) if image.mode == "RGB" else None
    if read is None or read.dtype != np.uint16 or read.shape != upper.shape:
        raise _unread(depth, name)
    values: npt.NDArray[np.uint16] = np.asarray(read[..., ::-1], dtype=np.uint16)
    if not np.array_equal(values >> 8, upper):  # OpenCV and Pillow disagree: neither is trusted
        raise _unread(depth, name)
    _check_within(depth.low, depth.high, float(values.min()), float(values.max()), name)
    return Image.fromarray(_scaled(values.astype(np.float32), depth, depth.high))


def _white(depth: Depth, largest: float, name: str) -> float:
    """Returns the value of white for an image whose largest value is `largest`."""
    if depth.high is not None:
        return depth.high
    if depth.is_whole and depth.bits == 16 and largest >= PLAUSIBLE:
        return FULL
    white = 1.0 if largest <= 1 and not depth.is_whole else 2.0 ** max(8, math.ceil(math.log2(largest + 1))) - 1
    what = f"{depth.bits} bits a channel" if depth.is_whole else "signed or floating-point values"
    raise DataError(
        f"expected an image that declares which value is white, but {name} has {what}, none above about {largest:g}, "
        f"and declares no range; {_remedy(white)}"
    )


def _check_within(low: float, high: float, smallest: float, largest: float, name: str) -> None:
    margin = (high - low) / 510  # half a step of 8 bits
    if smallest < low - margin or largest > high + margin:
        raise DataError(
            f"expected values from {low:g} to {high:g}, as {name} declares, got {smallest:g} to {largest:g}; correct "
            f"its range, or {_remedy(largest)}"
        )


def _scaled(values: npt.NDArray[np.floating], depth: Depth, white: float) -> npt.NDArray[np.uint8]:
    values -= depth.low  # in place: the image may be large
    values *= 255.0 / (white - depth.low)
    np.clip(values, 0, 255, out=values)
    values += 0.5
    scaled = values.astype(np.uint8)
    return 255 - scaled if depth.inverted else scaled


def _numbers(tags: Mapping[int, Any], tag: int, name: str) -> list[float]:
    found = tags.get(tag)
    if found is None:
        return []
    try:
        return [float(value) for value in (found if isinstance(found, tuple) else (found,))]
    except (TypeError, ValueError, ArithmeticError) as error:
        raise DataError(f"expected numbers in the TIFF tag {tag} of {name}, got none; {_remedy(FULL)}") from error


def _unread(depth: Depth, name: str) -> DataError:
    return DataError(
        f"expected an image whose colours can be read at their full depth, but {name} stores {depth.bits} bits a "
        f"channel in a way that is not supported; {_remedy(FULL)}"
    )


def _remedy(white: float) -> str:
    return (
        f'convert it to 8 bits with this command, in which {white:g} is the value of white: python -c "import cv2; '
        f"cv2.imwrite('NEW.png', (cv2.imread('FILE', -1) / {white:g} * 255).clip(0, 255).round().astype('uint8'))\""
    )
