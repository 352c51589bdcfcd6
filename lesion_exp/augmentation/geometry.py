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
import numpy.typing as npt

from lesion_exp.augmentation.fit import AVERAGE_FROM, Colour, cut, resize, resize_mask
from lesion_exp.augmentation.library import Transform, albumentations
from lesion_exp.augmentation.random_fit_crop import RandomFitCrop
from lesion_exp.image_file import UInt8Array

Matrix = npt.NDArray[np.float64]

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
    source: Matrix
    """(2, 3): from a pixel (x, y) of the result to one of the box, scaled to the size of the result."""
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
        source, warp = np.eye(3), None
        for move in self.moves:
            if move.p < 1 and not python_generator.random() < move.p:
                continue
            if is_warp(move):
                source, warp = source @ self._inverse(move, generator, python_generator), move
            else:
                source = source @ self._symmetry(_element(move, generator, python_generator))
        if warp is None:
            return Drawn(box, source[:2], None)
        colour = np.broadcast_to(warp.fill, 3).tolist()
        return Drawn(box, source[:2], Border(warp.border_mode, colour, warp.fill_mask))

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

    def _warped(self, view: UInt8Array, source: Matrix, interpolation: int, border_mode: int, fill: Any) -> UInt8Array:
        x, y = view.shape[1] / self.side, view.shape[0] / self.side
        matrix = np.array([[x], [y]]) * source
        matrix[:, 2] += (x / 2 - 0.5, y / 2 - 0.5)
        flags = interpolation | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(
            view, matrix, (self.side, self.side), flags=flags, borderMode=border_mode, borderValue=fill
        )
        return np.asarray(warped, dtype=np.uint8)

    def _symmetry(self, element: str) -> Matrix:
        (a, b, c), (d, e, f) = SYMMETRIES[element]
        far = self.side - 1
        return np.array([[a, b, c * far], [d, e, f * far], [0, 0, 1]], dtype=np.float64)

    def _inverse(self, warp: Transform, generator: np.random.Generator, python_generator: random.Random) -> Matrix:
        """(3, 3): from a pixel of the result of `warp` to one of its input."""
        if type(warp) is albumentations.Rotate:
            angle = math.radians(python_generator.uniform(*warp.limit))
            cos, sin, middle = math.cos(angle), math.sin(angle), (self.side - 1) / 2
            across, down = middle - (cos - sin) * middle, middle - (sin + cos) * middle
            return np.array([[cos, -sin, across], [sin, cos, down], [0, 0, 1]])
        warp.set_random_state(generator, python_generator)
        params = {**warp.get_params(), "shape": (self.side, self.side, 3)}
        return np.linalg.inv(warp.get_params_dependent_on_data(params, {})["matrix"])


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


def _turned(image: UInt8Array, source: Matrix) -> UInt8Array:
    """`image`, a square, by a symmetry; no pixel is interpolated."""
    (a, b, _), (d, e, _) = source.tolist()
    across, down = a + b < 0, d + e < 0
    turned: Any = image
    if a == 0:
        turned, across, down = cv2.transpose(image), down, across
    if across or down:
        turned = cv2.flip(turned, -1 if across and down else 1 if across else 0)
    return np.asarray(turned, dtype=np.uint8)
