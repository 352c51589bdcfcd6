"""Fuses neighbouring transforms of a recipe: geometry into one warp (`geometry`), colours into one lookup table."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from lesion_exp.augmentation.fit import Colour
from lesion_exp.augmentation.geometry import FusedGeometry, is_move, is_warp
from lesion_exp.augmentation.library import Transform, albumentations, changes_size, look_up
from lesion_exp.augmentation.random_fit_crop import RandomFitCrop
from lesion_exp.image_file import UInt8Array

Table = npt.NDArray[np.uint8]
ColourStep = tuple[Table, Table, Table] | Table
"""A lookup table for all channels, or one each for hue, saturation and value."""

_HUES: Final = 180
"""Number of OpenCV's hues, of two degrees each."""
_TURNED: Final = (np.arange(256 + _HUES) % _HUES).astype(np.uint8)
_MOVED: Final = np.clip(np.arange(-256, 512), 0, 255).astype(np.uint8)
_LEVELS: Final = np.arange(256, dtype=np.uint8)
_EXACT_LEVELS: Final = np.arange(256, dtype=np.float32)


class FusedColours:
    """Consecutive changes of colour that are applied with as few passes over the pixels as possible.

    Random draws and results are those of the transforms themselves, bit for bit.

    Args:
        moves: transforms for which `is_colour_change` is true, in their order.
    """

    def __init__(self, moves: Sequence[Transform]) -> None:
        self.moves = tuple(moves)

    def draw(self, python_generator: random.Random) -> list[ColourStep]:
        """Draws the parameters of the transforms, and returns the lookup tables in their order."""
        steps: list[ColourStep] = []
        for move in self.moves:
            if move.p < 1 and not python_generator.random() < move.p:
                continue
            move.py_random = python_generator
            if type(move) is albumentations.HueSaturationValue:
                steps.append(_shifts(**move.get_params()))
                continue
            joins = bool(steps) and not isinstance(steps[-1], tuple)
            before: Any = steps.pop() if joins else _LEVELS
            if type(move) is albumentations.RandomBrightnessContrast and not move.ensure_safe_range:
                steps.append(_lit(python_generator, move)[before])
                continue
            levels = before.reshape(16, 16)
            drawn = {**move.get_params(), **move.get_params_dependent_on_data({}, {"image": levels})}
            steps.append(move.apply(levels, **drawn).reshape(256))
        return steps

    def apply(self, image: UInt8Array, drawn: Sequence[ColourStep]) -> UInt8Array:
        """Applies the lookup tables to `image`, uint8 (H, W, 3) RGB."""
        shown: Any = image
        for step in drawn:
            if isinstance(step, tuple):
                hsv: Any = cv2.cvtColor(shown, cv2.COLOR_RGB2HSV)
                planes = np.empty((3, *image.shape[:2]), np.uint8)
                cv2.split(hsv, list(planes))  # into memory that is there already, which takes half of the time
                for plane, table in zip(planes, step, strict=True):
                    look_up(plane, table)
                shown = cv2.cvtColor(cv2.merge(list(planes), hsv), cv2.COLOR_HSV2RGB)
            else:
                shown = shown.copy() if shown is image else shown  # the caller's image stays as it is
                look_up(shown, step)
        return np.asarray(shown, dtype=np.uint8)


def is_colour_change(transform: Transform) -> bool:
    """Returns whether a `FusedColours` can contain `transform`: a change of colour that does not depend on the
    image.
    """
    if type(transform) is albumentations.RandomBrightnessContrast:
        return bool(transform.brightness_by_max)
    return type(transform) in (albumentations.HueSaturationValue, albumentations.RandomGamma)


def _lit(python_generator: random.Random, move: Transform) -> Table:
    """Draws the table of a `RandomBrightnessContrast`, which computes it in 32 bits and rounds down, too."""
    contrast = 1.0 + python_generator.uniform(*move.contrast_limit)
    brightness = python_generator.uniform(*move.brightness_limit) * 255
    lit = _EXACT_LEVELS * contrast + brightness
    return np.asarray(np.minimum(np.maximum(lit, 0), 255), dtype=np.uint8)


def _shifts(hue_shift: float, sat_shift: float, val_shift: float) -> tuple[Table, Table, Table]:
    hue = math.floor(hue_shift) % _HUES if hue_shift else 0
    saturation = _moved(sat_shift).copy()
    saturation[0] = 0  # a grey stays grey
    return (_TURNED[hue : hue + 256] if hue_shift else _LEVELS), saturation, _moved(val_shift)


def _moved(shift: float) -> Table:
    begin = 256 + min(max(int(shift), -256), 256)
    return _MOVED[begin : begin + 256]


Step = tuple[str, Transform | FusedGeometry | FusedColours]


def join(steps: Sequence[tuple[str, Transform]], side: int, fill: Colour, *, starts_square: bool) -> list[Step]:
    """Returns `steps` with consecutive transforms fused where possible.

    Args:
        steps: pairs of the path in the config and the transform, in their order.
        side: side of the result in pixels.
        fill: RGB colour outside the image.
        starts_square: whether the first step gets a square of that side.
    """
    joined: list[Step] = []
    rest, square = list(steps), starts_square
    while rest:
        path, first = rest[0]
        crop = first if _can_begin(first, side) else None
        after = [transform for _, transform in rest[1 if crop is not None else 0 :]]
        moves, changes = _moves(after) if square or crop is not None else [], list(takewhile(is_colour_change, after))
        if crop is not None or moves:
            joined.append((path, FusedGeometry(crop, moves, side, fill)))
            rest = rest[len(moves) + (crop is not None) :]
            square = True
        elif changes:
            joined.append((path, FusedColours(changes)))
            rest = rest[len(changes) :]
        else:
            joined.append(rest.pop(0))
            square = square and not changes_size(first)
    return joined


def _can_begin(transform: Transform, side: int) -> bool:
    return type(transform) is RandomFitCrop and transform.p == 1 and transform.size == side


def _moves(transforms: Sequence[Transform]) -> list[Transform]:
    """Returns the longest beginning of `transforms` that a single warp can do.

    It contains one warp at most, because a second warp would see the border that the first one made.
    """
    moves: list[Transform] = []
    for transform in transforms:
        if not is_move(transform) or (is_warp(transform) and any(is_warp(move) for move in moves)):
            break
        moves.append(transform)
    return moves
