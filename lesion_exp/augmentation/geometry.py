"""A crop, symmetries of the square and one affine transform, as a single look into the image."""

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
"""Rows of a 2 x 3 matrix: where a pixel (x, y) comes from. Plain numbers: numpy takes longer for so few."""

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
"""The symmetries of a square by albumentations' names: where a pixel (x, y) of the result comes from. The last column
counts sides of the square less one pixel."""
_IDENTITY: Final[Affine] = (1, 0, 0, 0, 1, 0)
_D4: Final = tuple(SYMMETRIES)
_QUARTERS: Final = ("e", "r90", "r180", "r270")


@dataclass(frozen=True)
class Border:
    """What lies outside the box: OpenCV's border mode, and the colour of image and mask where that is a constant."""

    mode: int
    fill: Any
    mask_fill: Any


@dataclass(frozen=True)
class Drawn:
    """One draw of a `GeometryRun`."""

    box: tuple[int, int, int, int]
    """top, left, height, width in the image; it may reach beyond it where `augmentation.fit` is pad."""
    source: Affine
    """From a pixel (x, y) of the result to one of the box, scaled to the size of the result."""
    border: Border | None
    """None where `source` is a symmetry of the square, which shows nothing from outside the box."""


class GeometryRun:
    """`moves` as one warp of the box that `crop` draws; without `crop` the box is the whole image, a square.

    The draws are those of the transforms themselves, number by number. Two things differ from applying one after the
    other: pixels are interpolated once, not twice, and a mirrored border begins up to half a pixel elsewhere.

    Args:
        crop: what draws the box, or None.
        moves: symmetries and at most one `is_warp`, in their order.
        side: of the result in pixels.
        fill: RGB outside the image, for a box that reaches beyond it.
    """

    def __init__(self, crop: RandomFitCrop | None, moves: Sequence[Transform], side: int, fill: Colour) -> None:
        self.crop = crop
        self.moves = tuple(moves)
        self.side = side
        self.fill = fill

    def draw(self, shape: tuple[int, ...], generator: np.random.Generator, python_generator: random.Random) -> Drawn:
        """What to do with an image of `shape` (H, W, 3)."""
        box = (0, 0, shape[0], shape[1])
        if self.crop is not None:
            self.crop.set_random_state(generator, python_generator)
            chosen = self.crop.get_params_dependent_on_data({"shape": shape}, {})
            box = (chosen["top"], chosen["left"], *chosen["box"])
        source, warp = _IDENTITY, None
        for move in self.moves:
            if move.p < 1 and not python_generator.random() < move.p:
                continue
            if is_warp(move):
                source, warp = after(source, self._inverse(move, generator, python_generator)), move
            else:
                source = after(source, self._symmetry(_element(move, generator, python_generator)))
        if warp is None:
            return Drawn(box, source, None)
        colour = np.broadcast_to(warp.fill, 3).tolist()
        return Drawn(box, source, Border(warp.border_mode, colour, warp.fill_mask))

    def apply(self, image: UInt8Array, mask: UInt8Array | None, drawn: Drawn) -> tuple[UInt8Array, UInt8Array | None]:
        """`image` (H, W, 3) and `mask` (H, W) as squares of `side` pixels."""
        top, left, height, width = drawn.box
        view = cut(image, top, left, (height, width), self.fill)
        if drawn.border is None:
            shown = _turned(resize(view, self.side), drawn.source)
            if mask is None:
                return shown, None
            return shown, _turned(resize_mask(cut(mask, top, left, (height, width), 0), self.side), drawn.source)
        if min(height, width) >= AVERAGE_FROM * self.side:  # a warp would pass over pixels
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
        # with a fourth channel OpenCV warps twice as fast, and a piece of its own is read from memory in its order
        piece: Any = cv2.cvtColor(view, cv2.COLOR_RGB2RGBA) if view.ndim == 3 else view
        if border_mode != cv2.BORDER_CONSTANT:  # mirrored beforehand: that is cheaper than a look-up for each pixel
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
        """From a pixel of the result of `warp` to one of its input."""
        if type(warp) is albumentations.Rotate:
            angle = math.radians(python_generator.uniform(*warp.limit))
            cos, sin, middle = math.cos(angle), math.sin(angle), (self.side - 1) / 2
            return cos, -sin, middle - (cos - sin) * middle, sin, cos, middle - (sin + cos) * middle
        warp.set_random_state(generator, python_generator)
        params = {**warp.get_params(), "shape": (self.side, self.side, 3)}
        a, b, c, d, e, f = np.linalg.inv(warp.get_params_dependent_on_data(params, {})["matrix"])[:2].ravel().tolist()
        return a, b, c, d, e, f


def is_move(transform: Transform) -> bool:
    """Whether a `GeometryRun` can take `transform`."""
    kinds = (
        albumentations.D4,
        albumentations.HorizontalFlip,
        albumentations.VerticalFlip,
        albumentations.Transpose,
        albumentations.RandomRotate90,
    )
    return type(transform) in kinds or is_warp(transform)


def is_warp(transform: Transform) -> bool:
    """Whether `transform` is an affine one that keeps the size of the image and interpolates linearly."""
    if type(transform) is albumentations.Rotate:
        keeps_size = not transform.crop_border
    elif type(transform) is albumentations.Affine:
        keeps_size = not transform.fit_output
    else:
        return False
    return bool(keeps_size and transform.interpolation == cv2.INTER_LINEAR)


def _element(move: Transform, generator: np.random.Generator, python_generator: random.Random) -> str:
    if type(move) is albumentations.D4:
        return _D4[int(generator.integers(len(_D4)))]
    if type(move) is albumentations.RandomRotate90:
        return _QUARTERS[python_generator.randint(0, 3)]
    return {albumentations.HorizontalFlip: "h", albumentations.VerticalFlip: "v", albumentations.Transpose: "t"}[
        type(move)
    ]


def in_box(source: Affine, height: int, width: int, side: int) -> Affine:
    """`source` of a `Drawn`, from a pixel of the result to one of a box of `height` and `width`, not scaled."""
    x, y = width / side, height / side
    return after((x, 0, x / 2 - 0.5, 0, y, y / 2 - 0.5), source)


def after(second: Affine, first: Affine) -> Affine:
    """`second` of what `first` gives."""
    a, b, c, d, e, f = second
    g, h, i, j, k, m = first
    return a * g + b * j, a * h + b * k, a * i + b * m + c, d * g + e * j, d * h + e * k, d * i + e * m + f


def _margins(source: Affine, side: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Pixels above, below, left and right of a view that a square of `side` reaches beyond it."""
    a, b, c, d, e, f = source
    far = side - 1
    across = [c, c + a * far, c + b * far, c + (a + b) * far]
    down = [f, f + d * far, f + e * far, f + (d + e) * far]
    above, left = math.ceil(-min(down)) + 1, math.ceil(-min(across)) + 1
    below, right = math.ceil(max(down)) + 2 - height, math.ceil(max(across)) + 2 - width
    return max(above, 0), max(below, 0), max(left, 0), max(right, 0)


def _turned(image: UInt8Array, source: Affine) -> UInt8Array:
    """`image`, a square, by a symmetry; no pixel is interpolated."""
    a, b, _, d, e, _ = source
    across, down = a + b < 0, d + e < 0
    turned: Any = image
    if a == 0:
        turned, across, down = cv2.transpose(image), down, across
    if across or down:
        turned = cv2.flip(turned, -1 if across and down else 1 if across else 0)
    return np.asarray(turned, dtype=np.uint8)
