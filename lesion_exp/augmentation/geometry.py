"""Fuses a crop, symmetries of the square and an affine transform into a single warp of the image."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import cv2
import numpy as np

from lesion_exp.augmentation.fit import AVERAGE_FROM, Colour, cut, resize, resize_mask
from lesion_exp.augmentation.library import Transform, albumentations
from lesion_exp.augmentation.random_fit_crop import RandomFitCrop
from lesion_exp.image_file import UInt8Array

Affine = tuple[float, float, float, float, float, float]
"""The rows of a 2 x 3 matrix from a pixel (x, y) of the result to its source. For six numbers, tuples are faster than
numpy."""

SYMMETRIES: Final = MappingProxyType(
    {
        "e": ((1, 0, 0), (0, 1, 0)),
        "r90": ((0, -1, 1), (1, 0, 0)),
        "r180": ((-1, 0, 1), (0, -1, 1)),
        "r270": ((0, 1, 0), (-1, 0, 1)),
        "v": ((1, 0, 0), (0, -1, 1)),
        "hvt": ((0, -1, 1), (-1, 0, 1)),
        "h": ((-1, 0, 1), (0, 1, 0)),
        "t": ((0, 1, 0), (1, 0, 0)),
    }
)
"""Albumentations' name of a symmetry of the square -> its matrix from a pixel (x, y) of the result to its source. The
last column is in units of the square's side minus one pixel."""
_IDENTITY: Final[Affine] = (1, 0, 0, 0, 1, 0)
_D4: Final = tuple(SYMMETRIES)
_QUARTERS: Final = ("e", "r90", "r180", "r270")


@dataclass(frozen=True)
class Border:
    """OpenCV's border mode outside the box, and the colours of image and mask for a constant border."""

    mode: int
    fill: Any
    mask_fill: Any


@dataclass(frozen=True)
class Drawn:
    """One draw of a `FusedGeometry`."""

    box: tuple[int, int, int, int]
    """Top, left, height and width in the image in pixels. With `augmentation.fit=pad` it may exceed the image."""
    source: Affine
    """The map from a pixel (x, y) of the result to one of the box, scaled to the size of the result."""
    border: Border | None
    """None if `source` is a symmetry of the square, which needs nothing outside the box."""


class FusedGeometry:
    """A crop and consecutive geometric transforms that are applied as a single warp.

    The random draws are those of the transforms themselves, number by number. The results differ in two ways from
    applying one transform after the other: pixels are interpolated once instead of twice, and a mirrored border may be
    shifted by up to half a pixel.

    Args:
        crop: draws the box; None: the box is the whole image, which must be square.
        moves: symmetries and at most one transform for which `is_warp` is true, in their order.
        side: side of the result in pixels.
        fill: RGB colour outside the image.
    """

    def __init__(self, crop: RandomFitCrop | None, moves: Sequence[Transform], side: int, fill: Colour) -> None:
        self.crop = crop
        self.moves = tuple(moves)
        self.side = side
        self.fill = fill
        self._border = next((_border(move) for move in self.moves if is_warp(move)), None)

    def draw(self, shape: tuple[int, ...], generator: np.random.Generator, python_generator: random.Random) -> Drawn:
        """Draws the parameters for an image of `shape` (H, W, 3)."""
        box = (0, 0, shape[0], shape[1])
        if self.crop is not None:
            self.crop.set_random_state(generator, python_generator)
            chosen = self.crop.get_params_dependent_on_data({"shape": shape}, {})
            box = (chosen["top"], chosen["left"], *chosen["box"])
        source, warped = _IDENTITY, False
        for move in self.moves:
            if move.p < 1 and not python_generator.random() < move.p:
                continue
            if is_warp(move):
                source, warped = after(source, self._inverse(move, generator, python_generator)), True
            else:
                source = after(source, self._symmetry(_element(move, generator, python_generator)))
        return Drawn(box, source, self._border if warped else None)

    def apply(self, image: UInt8Array, mask: UInt8Array | None, drawn: Drawn) -> tuple[UInt8Array, UInt8Array | None]:
        """Returns `image` (H, W, 3) and `mask` (H, W) as warped squares of `side` pixels."""
        top, left, height, width = drawn.box
        view = cut(image, top, left, (height, width), self.fill)
        if drawn.border is None:
            shown = _turned(resize(view, self.side), drawn.source)
            if mask is None:
                return shown, None
            return shown, _turned(resize_mask(cut(mask, top, left, (height, width), 0), self.side), drawn.source)
        if min(height, width) >= AVERAGE_FROM * self.side:  # a warp would skip pixels
            view = resize(view, self.side)
        border = drawn.border
        shown = self._warped(view, drawn.source, cv2.INTER_LINEAR, border.mode, border.fill)
        if mask is None:
            return shown, None
        view = cut(mask, top, left, (height, width), 0)
        return shown, self._warped(view, drawn.source, cv2.INTER_NEAREST, border.mode, border.mask_fill)

    def _warped(self, view: UInt8Array, source: Affine, interpolation: int, border_mode: int, fill: Any) -> UInt8Array:
        height, width = view.shape[:2]
        matrix = in_box(source, height, width, self.side)
        # OpenCV warps four channels twice as fast as three, and a copy is contiguous in memory
        piece: Any = cv2.cvtColor(view, cv2.COLOR_RGB2RGBA) if view.ndim == 3 else view
        if border_mode != cv2.BORDER_CONSTANT:  # adding the border first is faster than looking it up for each pixel
            above, below, left, right = _margins(matrix, self.side, height, width)
            piece = cv2.copyMakeBorder(piece, above, below, left, right, border_mode)
            matrix = after((1, 0, left, 0, 1, above), matrix)
        warped: Any = cv2.warpAffine(
            piece,
            np.array(matrix).reshape(2, 3),
            (self.side, self.side),
            flags=interpolation | cv2.WARP_INVERSE_MAP,
            borderMode=border_mode,
            borderValue=fill,
        )
        if view.ndim == 3:
            warped = cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB)
        return np.asarray(warped, dtype=np.uint8)

    def _symmetry(self, element: str) -> Affine:
        (a, b, c), (d, e, f) = SYMMETRIES[element]
        far = self.side - 1
        return a, b, c * far, d, e, f * far

    def _inverse(self, warp: Transform, generator: np.random.Generator, python_generator: random.Random) -> Affine:
        """Draws the parameters of `warp`, and returns its map from a pixel of the result to one of the input."""
        if type(warp) is albumentations.Rotate:
            angle = math.radians(python_generator.uniform(*warp.limit))
            cos, sin, middle = math.cos(angle), math.sin(angle), (self.side - 1) / 2
            return cos, -sin, middle - (cos - sin) * middle, sin, cos, middle - (sin + cos) * middle
        warp.set_random_state(generator, python_generator)
        params = {**warp.get_params(), "shape": (self.side, self.side, 3)}
        a, b, c, d, e, f = np.linalg.inv(warp.get_params_dependent_on_data(params, {})["matrix"])[:2].ravel().tolist()
        return a, b, c, d, e, f


def is_move(transform: Transform) -> bool:
    """Returns whether a `FusedGeometry` can contain `transform`: a symmetry of the square or a warp."""
    kinds = (
        albumentations.D4,
        albumentations.HorizontalFlip,
        albumentations.VerticalFlip,
        albumentations.Transpose,
        albumentations.RandomRotate90,
    )
    return type(transform) in kinds or is_warp(transform)


def is_warp(transform: Transform) -> bool:
    """Returns whether `transform` is affine, does not change the size of the image, and interpolates linearly."""
    if type(transform) is albumentations.Rotate:
        keeps_size = not transform.crop_border
    elif type(transform) is albumentations.Affine:
        keeps_size = not transform.fit_output
    else:
        return False
    return bool(keeps_size and transform.interpolation == cv2.INTER_LINEAR)


def _border(warp: Transform) -> Border:
    return Border(warp.border_mode, np.broadcast_to(warp.fill, 3).tolist(), warp.fill_mask)


def _element(move: Transform, generator: np.random.Generator, python_generator: random.Random) -> str:
    if type(move) is albumentations.D4:
        return _D4[int(generator.integers(len(_D4)))]
    if type(move) is albumentations.RandomRotate90:
        return _QUARTERS[python_generator.randint(0, 3)]
    return {albumentations.HorizontalFlip: "h", albumentations.VerticalFlip: "v", albumentations.Transpose: "t"}[
        type(move)
    ]


def in_box(source: Affine, height: int, width: int, side: int) -> Affine:
    """Converts the `source` of a `Drawn` to a map into the box in its own pixels, `height` x `width`."""
    x, y = width / side, height / side
    return after((x, 0, x / 2 - 0.5, 0, y, y / 2 - 0.5), source)


def after(second: Affine, first: Affine) -> Affine:
    """Returns the composition of two maps: `first`, then `second`."""
    a, b, c, d, e, f = second
    g, h, i, j, k, m = first
    return a * g + b * j, a * h + b * k, a * i + b * m + c, d * g + e * j, d * h + e * k, d * i + e * m + f


def _margins(source: Affine, side: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Returns how many pixels a warped square of `side` needs above, below, left and right of the view."""
    a, b, c, d, e, f = source
    far = side - 1
    across = [c, c + a * far, c + b * far, c + (a + b) * far]
    down = [f, f + d * far, f + e * far, f + (d + e) * far]
    above, left = math.ceil(-min(down)) + 1, math.ceil(-min(across)) + 1
    below, right = math.ceil(max(down)) + 2 - height, math.ceil(max(across)) + 2 - width
    return max(above, 0), max(below, 0), max(left, 0), max(right, 0)


def _turned(image: UInt8Array, source: Affine) -> UInt8Array:
    """Applies a symmetry to a square image, without interpolation."""
    a, b, _, d, e, _ = source
    across, down = a + b < 0, d + e < 0
    turned: Any = image
    if a == 0:
        turned, across, down = cv2.transpose(image), down, across
    if across or down:
        turned = cv2.flip(turned, -1 if across and down else 1 if across else 0)
    return np.asarray(turned, dtype=np.uint8)
