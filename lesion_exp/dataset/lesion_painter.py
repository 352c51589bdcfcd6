"""Paints generated lesions and photographs them: a lesion is painted once and may be photographed several times.

Colours follow the Beer-Lambert law: reflected light is attenuated by exp(-density * absorption) of superficial melanin
(brown to black), deep melanin (blue-grey) and blood (red). Scar, keratin and scales are painted over it in white.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from lesion_exp.dataset.lesion_structures import Ground, add_structures, noise, smoothstep
from lesion_exp.dataset.lesion_traits import Traits
from lesion_exp.synthetic_artefacts import draw_dark_corner, draw_hair, draw_ink, draw_ruler

UInt8Array = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]

BARE_SKIN: Final = np.asarray([0.98, 0.90, 0.855], dtype=np.float32)
WHITE: Final = np.asarray([0.95, 0.90, 0.86], dtype=np.float32)
ABSORPTION: Final = np.asarray([[0.42, 0.88, 1.3], [0.12, 0.95, 0.72], [1.05, 0.78, 0.45]], dtype=np.float32)
"""Absorption of melanin, blood and deep melanin (rows) for red, green and blue light (columns)."""


@dataclass(frozen=True)
class Skin:
    """The skin around a lesion."""

    tone: int
    """Fitzpatrick type, 1 to 6."""
    hairs: int
    """Mean number of hairs in a photograph."""
    freckles: int


@dataclass(frozen=True)
class PaintedLesion:
    """A square picture of a lesion and its skin, larger than a photograph."""

    light: Float
    """float32 (S, S, 3), reflected red, green and blue light, 0 to 1."""
    mask: UInt8Array
    """uint8 (S, S), 255 in the lesion, else 0."""


def paint_lesion(traits: Traits, skin: Skin, rng: np.random.Generator, height: int, width: int) -> PaintedLesion:
    """Paints a lesion with `traits` on `skin`, large enough for photographs of `height` x `width` pixels."""
    size, side = round(1.3 * max(height, width)), min(height, width)
    ground = _lay_ground(traits, rng, size, traits.radius * side, side)
    _colour_skin(ground, skin, rng)
    add_structures(ground, traits, rng)
    densities = np.stack([ground.melanin, ground.blood, ground.deep], axis=-1)
    light = BARE_SKIN * np.exp(-np.maximum(densities, 0) @ ABSORPTION)
    white = np.clip(ground.white, 0, 0.95)[:, :, None]
    light = light * (1 - white) + WHITE * white
    mask = np.where(ground.depth > 0, 255, 0).astype(np.uint8)
    return _bend(PaintedLesion(np.asarray(light, dtype=np.float32), mask), rng, side)


def photograph(
    lesion: PaintedLesion, skin: Skin, rng: np.random.Generator, height: int, width: int
) -> tuple[UInt8Array, UInt8Array]:
    """Returns a photograph, uint8 (height, width, 3) RGB, and its lesion mask, uint8 (height, width) of 0 or 255.

    Rotation, distance, position, light, focus and artefacts are random.
    """
    side, middle = min(height, width), lesion.light.shape[0] / 2
    place = cv2.getRotationMatrix2D((middle, middle), rng.uniform(0, 360), rng.uniform(0.85, 1.15))
    place[:, 2] += np.asarray([width, height]) / 2 - middle + rng.normal(0, 0.04, 2) * side
    light = cv2.warpAffine(
        lesion.light, place, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    mask = cv2.warpAffine(lesion.mask, place, (width, height), flags=cv2.INTER_LINEAR)
    image = _expose(np.asarray(light, dtype=np.float32), rng, side)
    hairs = int(rng.poisson(skin.hairs)) if skin.hairs else 0
    if hairs:
        image = draw_hair(image, rng, hairs)
    for chance, draw in ((0.04, draw_ink), (0.06, draw_ruler), (0.13, draw_dark_corner)):
        if rng.random() < chance:
            image = draw(image, rng)
    return image, np.where(mask > 127, 255, 0).astype(np.uint8)


def _bend(lesion: PaintedLesion, rng: np.random.Generator, side: int) -> PaintedLesion:
    """Distorts the lesion as on uneven skin, so that dots are not perfect circles and networks not perfect lattices."""
    size = lesion.light.shape[0]
    axis = np.arange(size, dtype=np.float32)
    shifts = [side * (0.01 * noise(rng, size, 0.05 * side) + 0.025 * noise(rng, size, 0.2 * side)) for _ in range(2)]
    across, down = axis[None, :] + shifts[0], axis[:, None] + shifts[1]
    light = cv2.remap(lesion.light, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    mask = cv2.remap(lesion.mask, across, down, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
    return PaintedLesion(np.asarray(light, dtype=np.float32), np.asarray(mask, dtype=np.uint8))


def _expose(light: Float, rng: np.random.Generator, side: int) -> UInt8Array:
    """Returns the camera's picture of `light`: with coloured and uneven lighting, focus, contrast and sensor noise."""
    height, width = light.shape[:2]
    gain = rng.uniform(0.86, 1.06) * (1 + rng.normal(0, 1, 3) * np.asarray([0.03, 0.045, 0.065]))
    slope = rng.normal(0, 0.06, 2)
    rows, columns = np.linspace(-1, 1, height)[:, None] * slope[0], np.linspace(-1, 1, width)[None, :] * slope[1]
    lamp = (1 + rows + columns).astype(np.float32)
    blur = rng.uniform(0, 0.005) * side
    if blur > 0.3:
        light = np.asarray(cv2.GaussianBlur(light, (0, 0), blur), dtype=np.float32)
    values = np.clip(light * lamp[:, :, None] * gain.astype(np.float32), 0, 1) ** np.float32(rng.uniform(0.85, 1.15))
    grain = rng.standard_normal((height, width), dtype=np.float32) * np.float32(rng.uniform(0.003, 0.011))
    return np.asarray(np.clip((values + grain[:, :, None]) * 255 + 0.5, 0, 255), dtype=np.uint8)


def _lay_ground(traits: Traits, rng: np.random.Generator, size: int, radius: float, side: int) -> Ground:
    """Returns a new lesion with its outline and its pigment, without structures."""
    turns = np.linspace(0, 2 * np.pi, 181)[:-1]
    waves = np.arange(2, 9)[:, None]
    heights = rng.normal(0, 1, waves.shape) / waves**0.7
    bays = (heights * np.cos(waves * turns + rng.uniform(0, 2 * np.pi, waves.shape))).sum(axis=0)
    reach = radius * np.clip(1 + traits.irregularity * bays, 0.45, 1.7)
    stretch = np.sqrt(traits.aspect)
    outline = np.stack([reach * np.cos(turns) * stretch, reach * np.sin(turns) / stretch], axis=1) + size / 2
    inside = np.zeros((size, size), dtype=np.uint8)
    cv2.fillPoly(inside, [np.round(outline * 16).astype(np.int32)], 1, shift=4)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    fray = (0.04 + 0.9 * traits.irregularity) * (noise(rng, size, 0.3 * radius) + 0.5 * noise(rng, size, 0.12 * radius))
    depth = np.asarray(depth / radius + fray, dtype=np.float32)
    cover = smoothstep(depth, -traits.softness, traits.softness)
    around = np.linspace(-1, 1, size, dtype=np.float32) * (size / 2 / radius)
    bearing = rng.uniform(0, 2 * np.pi)
    lopsided = around[:, None] * np.float32(np.sin(bearing)) + around[None, :] * np.float32(np.cos(bearing))
    patches = noise(rng, size, 0.55 * radius) + 0.5 * noise(rng, size, 0.2 * radius)
    density = (1 + traits.variegation * patches) * (1 + traits.asymmetry * np.clip(lopsided, -1, 1))
    density *= (0.8 + 0.2 * np.clip(depth, 0, 1)) * (1 + 0.3 * noise(rng, size, 0.035 * side))
    redness = 1 + 0.6 * noise(rng, size, 0.4 * radius)
    return Ground(
        outline=outline.astype(np.float32),
        radius=radius,
        side=side,
        depth=depth,
        cover=cover,
        melanin=traits.melanin * cover * np.maximum(density, 0.12),
        blood=traits.blood * cover * redness,
        deep=np.zeros_like(cover),
        white=traits.haze * cover,
    )


def _colour_skin(ground: Ground, skin: Skin, rng: np.random.Generator) -> None:
    """Adds the skin's own melanin and blood, its furrows and freckles."""
    size, side = ground.depth.shape[0], ground.side
    tone = 0.05 + 0.035 * (skin.tone - 1) ** 1.75 + rng.uniform(0, 0.05)
    furrows = noise(rng, size, 0.018 * side, 0.05 * side) + noise(rng, size, 0.045 * side, 0.02 * side)
    mottling = noise(rng, size, 0.2 * side)
    ground.melanin += np.float32(tone) * (1 + 0.12 * furrows + 0.15 * mottling)
    ground.blood += np.float32(rng.uniform(0.05, 0.28)) * (1 + 0.3 * noise(rng, size, 0.13 * side) + 0.08 * furrows)
    for _ in range(skin.freckles):
        place = tuple(int(value) for value in rng.uniform(0, size * 16, 2))
        freckle = np.zeros((size, size), dtype=np.uint8)
        cv2.circle(freckle, place, round(rng.uniform(0.008, 0.028) * side * 16), 255, -1, cv2.LINE_AA, 4)
        soft = cv2.GaussianBlur(freckle, (0, 0), 0.008 * side)
        ground.melanin += np.asarray(soft, dtype=np.float32) * np.float32(rng.uniform(0.1, 0.3) / 255)
