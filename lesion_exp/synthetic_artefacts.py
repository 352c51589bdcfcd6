"""Draws the artefacts of dermoscopic photographs: hair, a ruler, marker ink, the dark corners of a dermatoscope.

Pure functions on uint8 (H, W, 3) RGB images; each returns a new image and does not change its argument. Edges are
antialiased. Lengths are fractions of the image's shorter side, so that an artefact looks the same at any resolution.
The result depends on the image, the parameters and the state of `rng` only.

The generated data set, augmentation and the checks for learned shortcuts use these functions.
"""

from __future__ import annotations

from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

UInt8Image = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]
Edge = Literal["bottom", "right", "top", "left"]
Colour = tuple[int, int, int]

EDGES: Final[tuple[Edge, ...]] = ("bottom", "right", "top", "left")
HAIR_COLOURS: Final[tuple[Colour, ...]] = ((28, 20, 18), (58, 38, 28), (92, 64, 44), (150, 120, 88))
"""Black, dark brown, brown and blond, RGB."""
INK_COLOURS: Final[tuple[Colour, ...]] = ((92, 62, 168), (112, 56, 150), (60, 70, 170))
"""Colours of surgical markers (gentian violet and similar dyes) on white, RGB."""
_INK_STROKES: Final = 2
_INK_WIDTH: Final = (0.03, 0.07)
"""Smallest and greatest width of a stroke, fractions of the shorter side."""
_RULER_COLOUR: Final[Colour] = (24, 24, 30)
_RULER_PITCH: Final = (0.04, 0.075)
"""Smallest and greatest distance between ticks, fractions of the shorter side."""
_SHIFT: Final = 4
"""Bits of OpenCV's fixed-point coordinates: 1/16 of a pixel."""
_GRID: Final = 4
"""Antialiasing: the coverage of a pixel is measured at 4 x 4 points."""


def draw_hair(
    image: UInt8Image,
    rng: np.random.Generator,
    count: int = 12,
    width: tuple[float, float] = (0.004, 0.011),
    length: tuple[float, float] = (0.35, 1.3),
    colour: Colour | None = None,
) -> UInt8Image:
    """Draws `count` curved hairs that lie roughly in one direction and become thinner towards the tip.

    Args:
        image: uint8 (H, W, 3) RGB.
        rng: source of every random choice.
        count: number of hairs, 0 or more.
        width: smallest and greatest width at the root, fractions of the shorter side.
        length: smallest and greatest length, fractions of the shorter side.
        colour: RGB; None: one of `HAIR_COLOURS` at random.
    """
    assert count >= 0, count
    side = _shorter_side(image)
    if colour is None:
        colour = HAIR_COLOURS[int(rng.choice(len(HAIR_COLOURS), p=(0.35, 0.35, 0.2, 0.1)))]
    canvas = _fine_canvas(image.shape[:2])
    size = np.asarray(image.shape[1::-1], dtype=np.float64)
    direction = rng.uniform(0, 2 * np.pi)
    for _ in range(count):
        angle = direction + rng.normal(0, 0.35)
        path = _curve(
            centre=rng.uniform(-0.05, 1.05, 2) * size,
            angle=angle,
            length=rng.uniform(*length) * side,
            bend=rng.normal(0, 0.13),
            swing=rng.normal(0, 0.04),
        )
        strand = _strand(path, rng.uniform(*width) * side)
        cv2.fillPoly(canvas, [_fixed(strand)], 255 * float(rng.uniform(0.7, 0.97)), shift=_SHIFT)
    return _paint(image, _coverage(canvas, image.shape[:2]), colour)


def draw_ruler(image: UInt8Image, rng: np.random.Generator, edge: Edge | None = None) -> UInt8Image:
    """Draws a millimetre scale along one edge, with longer ticks at 5 mm and the longest, with a number, at 10 mm.

    Args:
        image: uint8 (H, W, 3) RGB.
        rng: source of every random choice.
        edge: the edge of the image; None: one at random.
    """
    if edge is None:
        edge = EDGES[int(rng.integers(len(EDGES)))]
    quarter_turns = EDGES.index(edge)
    height, width = image.shape[:2] if quarter_turns % 2 == 0 else image.shape[1::-1]
    unit = _shorter_side(image) * _GRID
    canvas = _fine_canvas((height, width))
    step, first = rng.uniform(*_RULER_PITCH) * unit, int(rng.integers(0, 60))
    offset, line = rng.uniform(0, step), max(1, round(0.006 * unit))
    for index in range(int(width * _GRID / step) + 1):
        number, column = first + index, round(offset + index * step)
        tick = (0.075 if number % 10 == 0 else 0.055 if number % 5 == 0 else 0.035) * unit
        bottom = height * _GRID
        cv2.line(canvas, (column, bottom), (column, round(bottom - tick)), 255, line)
        if number % 10 == 0:
            _write(canvas, str(number), column, round(bottom - tick - 0.02 * unit), 0.055 * unit, line)
    tilt = cv2.getRotationMatrix2D((width * _GRID / 2, height * _GRID), rng.uniform(-1.2, 1.2), 1.0)
    canvas[:] = cv2.warpAffine(canvas, tilt, canvas.shape[::-1], flags=cv2.INTER_LINEAR)
    alpha = np.rot90(_coverage(canvas, (height, width)), quarter_turns) * np.float32(rng.uniform(0.75, 0.95))
    return _paint(image, alpha, _RULER_COLOUR)


def draw_ink(image: UInt8Image, rng: np.random.Generator) -> UInt8Image:
    """Draws two strokes of a surgical marker around the middle of the image, unevenly as ink on skin.

    Args:
        image: uint8 (H, W, 3) RGB.
        rng: source of every random choice.
    """
    side = _shorter_side(image)
    colour = INK_COLOURS[int(rng.integers(len(INK_COLOURS)))]
    canvas = _fine_canvas(image.shape[:2])
    middle = np.asarray(image.shape[1::-1], dtype=np.float64) / 2
    for _ in range(_INK_STROKES):
        bearing = rng.uniform(0, 2 * np.pi)
        away = rng.uniform(0.36, 0.5) * np.asarray([np.cos(bearing), np.sin(bearing)])
        path = _curve(
            centre=middle + away * (0.4 * side + 0.6 * 2 * middle),
            angle=bearing + np.pi / 2 + rng.normal(0, 0.4),
            length=rng.uniform(0.2, 0.6) * side,
            bend=rng.normal(0.08, 0.1),
            swing=rng.normal(0, 0.05),
        )
        thickness = max(1, round(rng.uniform(*_INK_WIDTH) * side * _GRID))
        strength = 255 * float(rng.uniform(0.65, 0.95))
        cv2.polylines(canvas, [_fixed(path)], False, strength, thickness, shift=_SHIFT)
    stain = cv2.GaussianBlur(_coverage(canvas, image.shape[:2]), (0, 0), max(0.004 * side, 0.3))
    alpha = np.asarray(stain, dtype=np.float32) * (0.62 + 0.38 * _blotches(rng, image.shape[:2], 0.05 * side))
    passed = 1 - alpha[:, :, None] * (1 - np.asarray(colour, dtype=np.float32) / 255)
    return _to_uint8(image * passed)


def draw_dark_corner(
    image: UInt8Image,
    rng: np.random.Generator,
    radius: float | tuple[float, float] = (0.5, 0.66),
    softness: float = 0.06,
    darkness: float = 0.96,
) -> UInt8Image:
    """Darkens the image outside a circle, with a smooth transition, as the tube of a dermatoscope does.

    Args:
        image: uint8 (H, W, 3) RGB.
        rng: source of every random choice.
        radius: radius of the circle, or the smallest and greatest radius, as fractions of the shorter side. The corners
            of a 4:3 image lie at 0.83, those of a square at 0.71; a greater radius has no effect.
        softness: width of the transition, a fraction of the shorter side.
        darkness: share of the light that is lost outside the circle, 0 to 1.
    """
    side = _shorter_side(image)
    height, width = image.shape[:2]
    low, high = (radius, radius) if isinstance(radius, int | float) else radius
    drawn = rng.uniform(low, high) * side
    middle_y, middle_x = height / 2 + rng.normal(0, 0.012) * side, width / 2 + rng.normal(0, 0.012) * side
    rows = np.arange(height, dtype=np.float32)[:, None] + (0.5 - middle_y)
    columns = np.arange(width, dtype=np.float32)[None, :] + (0.5 - middle_x)
    passage = max(softness * side, 1.0)  # at least one pixel wide
    outside = np.clip((np.hypot(rows, columns) - drawn) / passage + 0.5, 0, 1)
    outside = outside * outside * (3 - 2 * outside)
    return _to_uint8(image * (1 - darkness * outside)[:, :, None])


def _curve(centre: npt.NDArray[np.float64], angle: float, length: float, bend: float, swing: float) -> Float:
    """Returns points (25, 2) of a curve through `centre`.

    `bend` and `swing` are the sizes of its C-shaped and S-shaped deviation from a line, as fractions of `length`.
    """
    t = np.linspace(0, 1, 25)
    along = (t - 0.5) * length
    across = (4 * bend * (t * (1 - t) - 0.25) + swing * np.sin(2 * np.pi * t)) * length
    cosine, sine = np.cos(angle), np.sin(angle)
    points = np.stack([along * cosine - across * sine, along * sine + across * cosine], axis=1)
    return np.asarray(centre + points, dtype=np.float32)


def _strand(path: Float, width: float) -> Float:
    """Returns the outline (50, 2) of a hair along `path` (25, 2): `width` at the root, a fifth of it at the tip."""
    tangent = np.gradient(path, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) / (np.hypot(*tangent.T)[:, None] + 1e-6)
    half = 0.5 * width * (1 - 0.8 * np.linspace(0, 1, len(path)) ** 1.6)[:, None]
    return np.asarray(np.concatenate([path + half * normal, (path - half * normal)[::-1]]), dtype=np.float32)


def _write(canvas: npt.NDArray[np.uint8], text: str, column: int, baseline: int, height: float, line: int) -> None:
    font = cv2.FONT_HERSHEY_SIMPLEX
    (_, unscaled), _ = cv2.getTextSize(text, font, 1.0, 1)
    scale = height / unscaled
    (width, _), _ = cv2.getTextSize(text, font, scale, line)
    cv2.putText(canvas, text, (column - width // 2, baseline), font, scale, 255, line)


def _blotches(rng: np.random.Generator, shape: tuple[int, int], grain: float) -> Float:
    """Returns smooth noise (H, W), 0 to 1, with spots of about `grain` pixels."""
    cells = (max(2, round(shape[0] / max(grain, 1))), max(2, round(shape[1] / max(grain, 1))))
    coarse = rng.random(cells, dtype=np.float32)
    smooth = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(smooth, 0, 1), dtype=np.float32)


def _fixed(points: Float) -> npt.NDArray[np.int32]:
    """Converts points in pixels to fixed-point coordinates of the fine canvas."""
    return np.round(points * (_GRID << _SHIFT)).astype(np.int32)


def _fine_canvas(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Returns an empty canvas for opacities of 0 to 255, with `_GRID` x `_GRID` points a pixel."""
    return np.zeros((shape[0] * _GRID, shape[1] * _GRID), dtype=np.uint8)


def _coverage(canvas: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> Float:
    """Returns the opacity of every pixel, (H, W), 0 to 1."""
    reduced = cv2.resize(canvas, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(reduced, dtype=np.float32) / np.float32(255)


def _paint(image: UInt8Image, alpha: Float, colour: Colour) -> UInt8Image:
    opacity = alpha[:, :, None]
    return _to_uint8(image * (1 - opacity) + np.asarray(colour, dtype=np.float32) * opacity)


def _to_uint8(values: npt.NDArray[np.floating]) -> UInt8Image:
    return np.asarray(np.clip(values + 0.5, 0, 255), dtype=np.uint8)


def _shorter_side(image: UInt8Image) -> int:
    assert image.dtype == np.uint8, f"uint8 expected, got {image.dtype}"
    assert image.shape[2:] == (3,), f"(H, W, 3) expected, got {image.shape}"
    return int(min(image.shape[:2]))
