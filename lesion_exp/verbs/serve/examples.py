"""Generated lesions to try a server with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from lesion_exp import taxonomy
from lesion_exp.dataset.lesion_painter import Skin, paint_lesion, photograph
from lesion_exp.dataset.lesion_traits import RECIPES, draw_traits

HEIGHT, WIDTH = 300, 400
_SEED: Final = 20
_QUALITY: Final = 90
_TONES: Final = (2, 1, 3, 4, 2, 5, 3)


@dataclass(frozen=True)
class DrawnExample:
    """A generated lesion."""

    name: str
    drawn_as: str
    title: str
    encoded: bytes
    """A JPEG file."""


def draw_examples() -> Mapping[str, DrawnExample]:
    """One lesion of each class that can be drawn, by the name of its file; the same at every start."""
    found = {}
    for number, code in enumerate(sorted(RECIPES)):
        rng = np.random.default_rng([_SEED, number])
        skin = Skin(_TONES[number % len(_TONES)], hairs=0, freckles=2)
        image, _ = photograph(paint_lesion(draw_traits(code, rng), skin, rng, HEIGHT, WIDTH), skin, rng, HEIGHT, WIDTH)
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
        name = f"generated-{code}.jpg"
        found[name] = DrawnExample(name, code, taxonomy.full_name(code), encoded)
    return found
