"""Draws the dermoscopic structures of a generated lesion, as densities of pigment, blood and white."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from lesion_exp.dataset.lesion_traits import Traits

Float = npt.NDArray[np.float32]

_REACH: Final = 0.9
"""Greatest distance of a spot from the middle, as a fraction of the way to the outline."""


@dataclass
class Ground:
    """A lesion while it is being painted. Arrays are float32 (S, S) unless noted; structures change them in place."""

    outline: Float
    """(180, 2), x and y of the outline in pixels."""
    radius: float
    """Radius of the lesion in pixels."""
    side: int
    """Shorter side of the photograph in pixels."""
    depth: Float
    """Distance from the outline in radii, positive inside and negative outside."""
    cover: Float
    """Opacity of the lesion, 0 to 1, with a soft border."""
    melanin: Float
    """Optical density of superficial melanin."""
    blood: Float
    """Optical density of blood."""
    deep: Float
    """Optical density of deep melanin."""
    white: Float
    """Opacity of the white cover."""


def add_structures(ground: Ground, traits: Traits, rng: np.random.Generator) -> None:
    """Draws every structure of `traits` whose strength is above 0."""
    for strength, draw in (
        (traits.network, _network),
        (traits.ring, _ring),
        (traits.globules, _globules),
        (traits.streaks, _streaks),
        (traits.veil, _veil),
        (traits.nests, _nests),
        (traits.lacunae, _lacunae),
        (traits.openings, _openings),
        (traits.milia, _milia),
        (traits.follicles, _follicles),
        (traits.vessels, _vessels),
        (traits.ulcer, _ulcer),
        (traits.scar, _scar),
        (traits.scale, _scale),
    ):
        if strength > 0:
            draw(ground, np.float32(strength), rng)
    if traits.purple > 0:
        ground.deep += np.float32(traits.purple * 0.7) * ground.blood * ground.cover


def noise(rng: np.random.Generator, size: int, grain: float, grain_x: float | None = None) -> Float:
    """Returns smooth noise (size, size), about -1 to 1, with spots of `grain` pixels down and `grain_x` across."""
    cells = [max(3, round(size / max(pixels, 1.0))) for pixels in (grain, grain_x or grain)]
    coarse = rng.random(cells, dtype=np.float32) * 2 - 1
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def smoothstep(values: Float, low: float, high: float) -> Float:
    """Returns 0 for values below `low`, 1 above `high`, and a smooth transition between them."""
    t = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def _network(ground: Ground, strength: np.float32, rng: np.random.Generator) -> None:
    lines = _mesh(ground, rng, rng.uniform(0.034, 0.048), bend=0.4)
    fading = np.clip(1.15 - 0.8 * ground.depth, 0.3, 1)  # the middle of a nevus is often without structure
    worn = 0.7 + 0.6 * noise(rng, ground.depth.shape[0], 0.25 * ground.radius)
    ground.melanin *= 1 + strength * ground.cover * fading * np.clip(worn, 0.1, 1) * (1.5 * lines - 0.6)


def _ring(ground: Ground, strength: np.float32, rng: np.random.Generator) -> None:
    lines = _mesh(ground, rng, rng.uniform(0.032, 0.042), bend=0.3)
    belt = ground.cover * (1 - smoothstep(ground.depth, 0.3, 0.65))
    ground.melanin += strength * belt * (0.55 * lines + 0.08)


def _globules(ground: Ground, strength: np.float32, rng: np.random.Generator) -> None:
    lopsided = rng.uniform(0, 2 * np.pi) if strength > 0.5 else None
    dots = _dots(ground, rng, round(12 + 30 * strength), (0.008, 0.02), bearing=lopsided)
    ground.melanin += 0.9 * strength * dots


def _streaks(ground: Ground, strength: np.float32, rng: np.random.Generator) -> None:
    canvas = np.zeros(ground.depth.shape, dtype=np.uint8)
    middle, start = ground.depth.shape[0] / 2, int(rng.integers(180))
    for step in range(0, round(50 + 90 * strength), 5):
        edge = ground.outline[(start + step + int(rng.integers(-1, 2))) % 180] - middle
        ends = [middle + edge * reach for reach in (rng.uniform(0.75, 0.88), rng.uniform(1.06, 1.22))]
        inner, outer = _points(ends)
        cv2.line(canvas, inner, outer, 255, max(1, round(0.014 * ground.side)), cv2.LINE_AA, 4)
    ground.melanin += 1.1 * strength * _soft(canvas, 0.006 * ground.side)


def _veil(ground: Ground, strength: np.float32, rng: np.random.Generator) -> None:
    size = ground.depth.shape[0]
    patch = smoothstep(noise(rng, size, 0.6 * ground.radius) + 0.5 * ground.depth, -0.05, 0.75) * ground.cover
    ground.melanin *= 1 - 0.65 * strength * patch
    ground.deep += 1.1 * strength * patch
    ground.white += 0.16 * strength * patch * (1 + 0.5 * noise(rng, size, 0.2 * ground.radius))


def _nests(ground: Ground, strength: np.float32, rng: np.random.Generator) -> None:
    dots = _dots(ground, rng, round(3 + 9 * strength), (0.02, 0.05), stretched=True)
    ground.deep += 0.9 * strength * dots
    ground.melanin += 0.3 * strength * dots


def _lacunae(ground: Ground, strength: np.float32, rng: np.random.Generator) -> None:
    size, within = 0.24 * ground.radius / ground.side, smoothstep(ground.depth, -0.1, 0.12)
    rooms = _dots(ground, rng, round(30 * rng.uniform(0.7, 1.3)), (0.4 * size, 1.2 * size), blur=0.012, stretched=True)
    ground.blood += strength * rooms * (1.3 + 0.5 * noise(rng, ground.depth.shape[0], 0.5 * ground.radius))
    ground.deep += 0.2 * strength * rooms
    ground.white += 0.18 * within * (1 - rooms)


def _openings(ground: Ground, strength: np.float32, rng: np.random.Generator) -> None:
    plugs = _dots(ground, rng, round(5 + 16 * strength), (0.012, 0.028), stretched=True)
    ground.melanin += 1.3 * strength * plugs


def _milia(ground: Ground, strength: np.float32, rng: np.random.Generator) -> None:
    cysts = _dots(ground, rng, round(6 + 30 * strength), (0.006, 0.017), blur=0.004)
    ground.melanin *= 1 - 0.5 * cysts
    ground.white += 0.6 * strength * cysts


def _follicles(ground: Ground, strength: np.float32, rng: np.random.Generator) -> None:
    lines = _mesh(ground, rng, rng.uniform(0.046, 0.066), bend=0.5)
    pores = smoothstep(1 - lines, 0.65, 1.1) * ground.cover
    ground.blood += 0.45 * strength * ground.cover * (1 - pores)
    ground.blood *= 1 - 0.75 * strength * pores
    ground.white += 0.38 * strength * pores


def _vessels(ground: Ground, strength: np.float32, rng: np.random.Generator) -> None:
    canvas = np.zeros(ground.depth.shape, dtype=np.uint8)
    middle = np.full(2, ground.depth.shape[0] / 2)
    for _ in range(round(2 + 4 * strength)):
        root = (ground.outline[int(rng.integers(180))] - middle) * rng.uniform(0.8, 1.25)
        heading = float(np.arctan2(-root[1], -root[0]) + rng.normal(0, 0.5))
        _branch(
            canvas,
            rng,
            middle + root,
            heading,
            rng.uniform(0.009, 0.014) * ground.side,
            0.9 * ground.radius,
            0.003 * ground.side,
        )
    ground.blood += 1.6 * strength * _soft(canvas, 0.003 * ground.side)


def _branch(
    canvas: npt.NDArray[np.uint8],
    rng: np.random.Generator,
    start: npt.NDArray[np.float64],
    heading: float,
    thickness: float,
    length: float,
    finest: float,
) -> None:
    """Draws a winding vessel that splits into thinner ones down to a thickness of `finest` pixels."""
    points, step = [start], length / 8
    for _ in range(8):
        heading += float(rng.normal(0, 0.3))
        points.append(points[-1] + step * np.asarray([np.cos(heading), np.sin(heading)]))
    shade = min(255.0, 255.0 * thickness)  # thinner than a pixel: paler
    path = np.round(np.asarray(points) * 16).astype(np.int32)
    cv2.polylines(canvas, [path], False, shade, max(1, round(thickness)), cv2.LINE_AA, 4)
    if thickness > finest:
        for side in (-1, 1):
            fork = points[-1] if side < 0 else points[int(rng.integers(3, 8))]
            turn = side * rng.uniform(0.3, 0.9)
            _branch(canvas, rng, fork, heading + turn, 0.66 * thickness, 0.66 * length, finest)


def _ulcer(ground: Ground, strength: np.float32, rng: np.random.Generator) -> None:
    size = ground.depth.shape[0]
    sore = smoothstep(noise(rng, size, 0.5 * ground.radius) + 0.6 * ground.depth, 0.45, 0.6) * ground.cover
    ground.blood += 1.1 * strength * sore
    ground.melanin += 0.5 * strength * sore * (1 + noise(rng, size, 0.1 * ground.radius))


def _scar(ground: Ground, strength: np.float32, rng: np.random.Generator) -> None:
    size = ground.depth.shape[0]
    grooves = noise(rng, size, 0.02 * ground.side, 0.1 * ground.side)
    patch = smoothstep(ground.depth + 0.22 * noise(rng, size, 0.3 * ground.radius), 0.25, 0.95)
    ground.melanin *= 1 - 0.7 * strength * patch
    ground.blood *= 1 - 0.6 * strength * patch
    ground.white += strength * patch * (0.5 + 0.2 * grooves)


def _scale(ground: Ground, strength: np.float32, rng: np.random.Generator) -> None:
    size = ground.depth.shape[0]
    where = smoothstep(noise(rng, size, 0.45 * ground.radius), -0.2, 0.4) * ground.cover
    flakes = smoothstep(noise(rng, size, 0.03 * ground.side, 0.045 * ground.side), 0.3, 0.55)
    ground.white += 0.7 * strength * where * flakes


def _mesh(ground: Ground, rng: np.random.Generator, spacing: float, bend: float) -> Float:
    """Returns a honeycomb of lines (1) around holes (0), randomly bent.

    Args:
        ground: the lesion.
        rng: source of every random choice.
        spacing: distance between holes, a fraction of the shorter side.
        bend: strength of the distortion, in spacings.
    """
    size, period = ground.depth.shape[0], spacing * ground.side
    axis = np.arange(size, dtype=np.float32)
    down = axis[:, None] + np.float32(bend * period * 2) * noise(rng, size, 3.5 * period)
    across = axis[None, :] + np.float32(bend * period * 2) * noise(rng, size, 3.5 * period)
    waves = np.zeros((size, size), dtype=np.float32)
    for turn in (0.0, np.pi / 3, 2 * np.pi / 3):
        scale = 2 * np.pi / period * 1.1547  # rows of a hexagonal lattice lie cos(30 degrees) of its spacing apart
        waves += np.cos(across * np.float32(scale * np.cos(turn)) + down * np.float32(scale * np.sin(turn)))
    return 1 - smoothstep(waves, -1.2, 1.1)


def _dots(
    ground: Ground,
    rng: np.random.Generator,
    count: int,
    size: tuple[float, float],
    *,
    blur: float = 0.005,
    stretched: bool = False,
    bearing: float | None = None,
) -> Float:
    """Returns `count` soft spots in the lesion, 0 to 1.

    Args:
        ground: the lesion.
        rng: source of every random choice.
        count: number of spots.
        size: smallest and greatest radius, fractions of the shorter side.
        blur: width of the soft border, a fraction of the shorter side.
        stretched: whether the spots are clearly elliptic.
        bearing: direction in radians in which most spots lie; None: no direction.
    """
    canvas = np.zeros(ground.depth.shape, dtype=np.uint8)
    middle = ground.depth.shape[0] / 2
    for _ in range(count):
        turn = rng.uniform(0, 2 * np.pi) if bearing is None else bearing + rng.normal(0, 0.7)
        edge = ground.outline[int(turn / (2 * np.pi) * 180) % 180] - middle
        centre = middle + edge * _REACH * np.sqrt(rng.random())
        axis = rng.uniform(*size) * ground.side * 16
        axes = (round(axis), round(axis * (rng.uniform(0.45, 0.9) if stretched else rng.uniform(0.85, 1))))
        place = _points([centre])[0]
        shade = 255 * float(rng.uniform(0.6, 1))
        cv2.ellipse(canvas, place, axes, float(rng.uniform(0, 180)), 0, 360, shade, -1, cv2.LINE_AA, 4)
    return _soft(canvas, blur * ground.side)


def _points(places: list[npt.NDArray[np.float32]]) -> list[tuple[int, int]]:
    """Converts pixels to OpenCV's fixed-point coordinates (1/16 of a pixel)."""
    return [(round(float(x) * 16), round(float(y) * 16)) for x, y in places]


def _soft(canvas: npt.NDArray[np.uint8], blur: float) -> Float:
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), max(blur, 0.4)), dtype=np.float32) / np.float32(255)
