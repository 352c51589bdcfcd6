"""A fixed set of views of each training image, of which every epoch shows one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lesion_exp.choices import FLIPS8
from lesion_exp.errors import ConfigError

NUM_FLIPS: Final = 8
"""The flips and quarter turns of a square, the unchanged image first."""
MOST_DRAWS: Final = 1000
_STREAM: Final = 0x51E3
"""Separates the choice of views from the other random numbers of an epoch."""


@dataclass(frozen=True)
class FixedView:
    """One of the fixed views of an image."""

    is_flip: bool
    """Whether it is one of the 8 flips and quarter turns; otherwise it is a draw of the transforms."""
    number: int
    """Its number among them, from 0. Flip 0 is the unchanged image."""


def num_views(views: str | int) -> int:
    """Returns the number of views of an image for a value of `augmentation.views` that is not null."""
    return NUM_FLIPS if views == FLIPS8 else int(views)


def views_of_epoch(seed: int, epoch: int, num_images: int, views: int) -> npt.NDArray[np.int64]:
    """Returns which of its `views` each position shows in an epoch, int64 (num_images,), from 0."""
    return np.random.default_rng([seed, epoch, _STREAM]).integers(views, size=num_images)


def check_views(views: object, transforms: Sequence[object], device: str) -> None:
    """Checks a value of `augmentation.views` against the transforms of training and the device that applies them.

    Raises:
        ConfigError: it is neither null, `flips8` nor a number of draws, there is nothing to draw, or flips are asked
            for beside transforms.
    """
    if views is None:
        return
    is_number = isinstance(views, int) and not isinstance(views, bool)
    if not (views == FLIPS8 or (is_number and 1 <= int(str(views)) <= MOST_DRAWS)):
        raise ConfigError(
            f"expected augmentation.views to be null, {FLIPS8} or a number of draws from 1 to {MOST_DRAWS}, got "
            f"{views!r}; for example augmentation.views=8"
        )
    if views == FLIPS8 and transforms:
        raise ConfigError(
            f"expected no random transforms with augmentation.views={FLIPS8}, which is the whole augmentation, got "
            f"{len(transforms)}; set augmentation=none, or a number of draws of them: augmentation.views=8"
        )
    if is_number and not transforms:
        raise ConfigError(
            f"expected random transforms for augmentation.views={views}, which is a number of their draws, got none; "
            f"set augmentation=light, or augmentation.views={FLIPS8} for flips and quarter turns"
        )
    if device != "cpu":
        raise ConfigError(
            f"expected augmentation.device=cpu with augmentation.views={views}, got {device}; set "
            f"augmentation.device=cpu, or augmentation.views=null for new draws in each epoch"
        )
