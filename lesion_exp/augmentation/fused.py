"""Which transforms of a recipe are applied together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from lesion_exp.augmentation.colour import ColourRun, is_tint
from lesion_exp.augmentation.fit import Colour
from lesion_exp.augmentation.geometry import GeometryRun, is_move, is_warp
from lesion_exp.augmentation.library import Transform, changes_size
from lesion_exp.augmentation.random_fit_crop import RandomFitCrop

Step = tuple[str, Transform | GeometryRun | ColourRun]


def join(steps: Sequence[tuple[str, Transform]], side: int, fill: Colour, *, starts_square: bool) -> list[Step]:
    """`steps`, with every run of transforms that can be joined as one of them; the others as they are.

    `side` is that of the result in pixels; `starts_square` says that the first step gets a square of that side.
    """
    joined: list[Step] = []
    rest, square = list(steps), starts_square
    while rest:
        path, first = rest[0]
        crop = first if _can_begin(first, side) else None
        after = [transform for _, transform in rest[1 if crop is not None else 0 :]]
        moves, tints = _moves(after) if square or crop is not None else [], list(takewhile(is_tint, after))
        if crop is not None or moves:
            joined.append((path, GeometryRun(crop, moves, side, fill)))
            rest = rest[len(moves) + (crop is not None) :]
            square = True
        elif tints:
            joined.append((path, ColourRun(tints)))
            rest = rest[len(tints) :]
        else:
            joined.append(rest.pop(0))
            square = square and not changes_size(first)
    return joined


def _can_begin(transform: Transform, side: int) -> bool:
    return type(transform) is RandomFitCrop and transform.p == 1 and transform.size == side


def _moves(transforms: Sequence[Transform]) -> list[Transform]:
    """The longest beginning of `transforms` that one warp can do.

    A second warp would see the border that the first one made: that is not one warp of the image.
    """
    moves: list[Transform] = []
    for transform in transforms:
        if not is_move(transform) or (is_warp(transform) and any(is_warp(move) for move in moves)):
            break
        moves.append(transform)
    return moves
