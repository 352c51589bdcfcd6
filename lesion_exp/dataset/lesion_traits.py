"""Random visible traits of a generated lesion for each HAM10000 class.

The traits are those by which dermoscopy distinguishes the classes (Kittler et al. 2016,
doi:10.1016/j.jaad.2015.12.036). Their ranges overlap, and some lesions have the colour and outline of a class with
which they are confused in practice, so that neither a single trait nor the mean colour reveals the class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

import numpy as np


@dataclass(frozen=True)
class Traits:
    """The visible traits of one lesion. The strength of a structure is 0 if it is absent and 1 if it is pronounced."""

    radius: float
    """Radius of the lesion, a fraction of the image's shorter side."""
    aspect: float
    """Length over breadth, 1 or more."""
    irregularity: float
    """Size of the outline's bays and bulges, a fraction of the radius."""
    softness: float
    """Width of the transition from lesion to skin, a fraction of the radius."""
    melanin: float
    """Optical density of superficial pigment (brown, black where dense)."""
    variegation: float
    """Spatial variation of the pigment's density, 0 to 1."""
    asymmetry: float
    """How much denser the pigment is on one side, 0 to 1."""
    blood: float
    """Optical density of blood (pink, red)."""
    haze: float
    """Opacity of a whitish cover over the whole lesion, 0 to 1."""
    network: float = 0.0
    globules: float = 0.0
    streaks: float = 0.0
    veil: float = 0.0
    """Blue-white veil."""
    milia: float = 0.0
    """Milia-like cysts: small white dots."""
    openings: float = 0.0
    """Comedo-like openings: dark brown plugs."""
    vessels: float = 0.0
    """Arborising vessels."""
    nests: float = 0.0
    """Blue-grey ovoid nests."""
    ulcer: float = 0.0
    follicles: float = 0.0
    """Strawberry pattern: white follicles on a red background."""
    scale: float = 0.0
    lacunae: float = 0.0
    """Red to purple blood-filled spaces."""
    purple: float = 0.0
    """Share of the blood that lies deep or is clotted."""
    scar: float = 0.0
    """Central white patch."""
    ring: float = 0.0
    """Delicate peripheral network."""


Range = tuple[float, float]
Chance = tuple[float, float, float]
"""Probability of a structure, and its smallest and greatest strength."""


@dataclass(frozen=True)
class Recipe:
    """The ranges of a class: `ground` for outline and colour (traits without a default), and its `structures`."""

    ground: Mapping[str, Range]
    structures: Mapping[str, Chance]


def _ground(
    *, radius: Range, aspect: Range, irregularity: Range, softness: Range, melanin: Range, variegation: Range,
    asymmetry: Range, blood: Range, haze: Range,
) -> Mapping[str, Range]:  # fmt: skip
    return {
        "radius": radius, "aspect": aspect, "irregularity": irregularity, "softness": softness, "melanin": melanin,
        "variegation": variegation, "asymmetry": asymmetry, "blood": blood, "haze": haze,
    }  # fmt: skip


RECIPES: Final[Mapping[str, Recipe]] = {
    "akiec": Recipe(
        _ground(radius=(0.2, 0.4), aspect=(1, 1.6), irregularity=(0.05, 0.13), softness=(0.2, 0.5), melanin=(0, 0.45),
                variegation=(0.2, 0.6), asymmetry=(0.1, 0.5), blood=(0.2, 0.6), haze=(0, 0.12)),
        {"follicles": (0.7, 0.4, 1), "scale": (0.75, 0.35, 1), "network": (0.1, 0.2, 0.4), "milia": (0.1, 0.2, 0.4),
         "vessels": (0.1, 0.3, 0.5)},
    ),
    "bcc": Recipe(
        _ground(radius=(0.15, 0.36), aspect=(1, 1.6), irregularity=(0.03, 0.11), softness=(0.1, 0.35),
                melanin=(0, 0.35), variegation=(0.2, 0.6), asymmetry=(0.1, 0.5), blood=(0.15, 0.5), haze=(0, 0.25)),
        {"vessels": (0.9, 0.5, 1), "nests": (0.5, 0.4, 1), "ulcer": (0.3, 0.4, 1), "globules": (0.1, 0.2, 0.4),
         "scale": (0.15, 0.2, 0.5)},
    ),
    "bkl": Recipe(
        _ground(radius=(0.18, 0.42), aspect=(1, 1.7), irregularity=(0.03, 0.1), softness=(0.02, 0.08),
                melanin=(0.3, 1.4), variegation=(0.15, 0.5), asymmetry=(0, 0.4), blood=(0, 0.25), haze=(0, 0.2)),
        {"milia": (0.75, 0.4, 1), "openings": (0.6, 0.4, 1), "scale": (0.2, 0.2, 0.5), "network": (0.15, 0.2, 0.4),
         "globules": (0.1, 0.2, 0.5)},
    ),
    "df": Recipe(
        _ground(radius=(0.14, 0.3), aspect=(1, 1.3), irregularity=(0.01, 0.06), softness=(0.2, 0.5),
                melanin=(0.12, 0.6), variegation=(0.05, 0.25), asymmetry=(0, 0.2), blood=(0.05, 0.35), haze=(0, 0.1)),
        {"scar": (0.9, 0.5, 1), "ring": (0.85, 0.4, 1), "globules": (0.1, 0.2, 0.4)},
    ),
    "mel": Recipe(
        _ground(radius=(0.18, 0.42), aspect=(1, 1.8), irregularity=(0.06, 0.17), softness=(0.03, 0.18),
                melanin=(0.6, 2.2), variegation=(0.35, 0.9), asymmetry=(0.25, 0.8), blood=(0, 0.5), haze=(0, 0.1)),
        {"network": (0.55, 0.3, 0.9), "globules": (0.6, 0.4, 1), "veil": (0.65, 0.35, 1), "streaks": (0.4, 0.4, 1),
         "scar": (0.2, 0.2, 0.5), "milia": (0.08, 0.2, 0.4)},
    ),
    "nv": Recipe(
        _ground(radius=(0.13, 0.36), aspect=(1, 1.5), irregularity=(0.01, 0.06), softness=(0.06, 0.3),
                melanin=(0.35, 1.7), variegation=(0.05, 0.35), asymmetry=(0, 0.25), blood=(0, 0.35), haze=(0, 0.08)),
        {"network": (0.8, 0.35, 1), "globules": (0.35, 0.2, 0.7), "veil": (0.04, 0.2, 0.4), "streaks": (0.05, 0.2, 0.5),
         "milia": (0.05, 0.2, 0.4)},
    ),
    "vasc": Recipe(
        _ground(radius=(0.1, 0.28), aspect=(1, 1.4), irregularity=(0.02, 0.1), softness=(0.03, 0.15), melanin=(0, 0.1),
                variegation=(0.1, 0.3), asymmetry=(0, 0.3), blood=(0.2, 0.8), haze=(0, 0.15)),
        {"lacunae": (0.9, 0.5, 1.2), "purple": (0.6, 0.1, 0.9), "ulcer": (0.1, 0.3, 0.6)},
    ),
}  # fmt: skip
"""A recipe for every class of HAM10000."""

_MISTAKEN_FOR: Final[Mapping[str, tuple[str, ...]]] = {
    "akiec": ("bkl", "bcc"),
    "bcc": ("akiec", "nv", "vasc"),
    "bkl": ("mel", "nv", "akiec"),
    "df": ("nv", "bcc"),
    "mel": ("nv", "bkl"),
    "nv": ("mel", "bkl", "df"),
    "vasc": ("bcc", "mel"),
}
_SHARE_MISTAKEN: Final = 0.25


def draw_traits(code: str, rng: np.random.Generator) -> Traits:
    """Returns random traits of a lesion of the class `code`, one of `RECIPES`."""
    recipe = RECIPES[code]
    ground = recipe.ground
    if rng.random() < _SHARE_MISTAKEN:
        ground = RECIPES[str(rng.choice(_MISTAKEN_FOR[code]))].ground
    drawn = {name: float(rng.uniform(*limits)) for name, limits in ground.items()}
    for trait in fields(Traits):
        if trait.name in recipe.structures:
            chance, low, high = recipe.structures[trait.name]
            present, strength = rng.random() < chance, float(rng.uniform(low, high))
            drawn[trait.name] = strength if present else 0.0
    return Traits(**drawn)
