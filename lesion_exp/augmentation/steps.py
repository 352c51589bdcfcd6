"""Applies the transforms of a pipeline to an image, one after the other. Only pipelines with transforms import this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from lesion_exp.augmentation.fused import FusedColours, Step
from lesion_exp.augmentation.geometry import FusedGeometry
from lesion_exp.augmentation.library import Transform, check_arguments, generators, walk
from lesion_exp.errors import ConfigError
from lesion_exp.image_file import UInt8Array

Augmented = tuple[UInt8Array, UInt8Array | None]
Steps = list[Step]


def named_steps(nodes: Mapping[str, Transform | None], group: str) -> Steps:
    """Returns the transforms of `nodes` that are not None, each with its path in the config, below `group`.

    Raises:
        ConfigError: a transform gets an argument that it does not have.
    """
    steps: Steps = []
    for name, transform in nodes.items():
        if transform is None:
            continue
        path = f"{group}.{name}"
        check_arguments(transform, path)
        for _, part in walk(transform, path):
            if hasattr(part, "mask_interpolation"):
                part.mask_interpolation = cv2.INTER_NEAREST  # a mask has two values and none between them
        steps.append((path, transform))
    return steps


def check_never_random(steps: Steps) -> None:
    """Checks that the transforms of `steps`, and those inside them, are always applied.

    Raises:
        ConfigError: one of them is random.
    """
    for path, transform in steps:
        for place, part in walk(transform, path):
            if part.p < 1:
                raise ConfigError(
                    f"expected a transform that is always applied, got {place}.p={part.p:g}; set p=1, or move it "
                    f"to augmentation.transforms if it is meant for training only"
                )


def apply_steps(
    steps: Steps, image: UInt8Array, mask: UInt8Array | None, seed: Sequence[int], *, force: bool = False
) -> Augmented:
    """Applies `steps` to an image and its mask; with `force`, also those that are applied at random.

    Raises:
        ConfigError: a transform fails on this image, or does not return uint8.
    """
    # All transforms share one pair of generators. `Compose.set_random_seed` would give each of them a generator of its
    # own with the same seed: all would draw the same numbers, and no horizontal flip would come without a vertical one.
    generator, python_generator = generators(seed)
    for path, step in steps:
        if isinstance(step, FusedGeometry):
            image, mask = step.apply(image, mask, step.draw(image.shape, generator, python_generator))
        elif isinstance(step, FusedColours):
            image = step.apply(image, step.draw(python_generator))
        else:
            step.set_random_state(generator, python_generator)
            image, mask = _transformed(path, step, image, mask, force=force)
    return image, mask


def _transformed(
    path: str, transform: Transform, image: UInt8Array, mask: UInt8Array | None, *, force: bool
) -> Augmented:
    data: dict[str, Any] = {"image": image} if mask is None else {"image": image, "mask": mask}
    try:
        data = transform(force_apply=force, **data)
    except Exception as error:
        raise ConfigError(
            f"expected {path} ({type(transform).__name__}) to work on an image of {image.shape[1]} x {image.shape[0]} "
            f"pixels, but it fails: {error}; change its arguments or switch it off with {path}=null"
        ) from error
    made = data["image"]
    if made.dtype != np.uint8 or made.ndim != 3 or made.shape[2] != 3:
        raise ConfigError(
            f"expected {path} ({type(transform).__name__}) to return a uint8 RGB image, got {made.dtype} of shape "
            f"{made.shape}; images are normalised and converted to tensors later: switch it off with {path}=null"
        )
    return made, data.get("mask")
