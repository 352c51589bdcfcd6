"""The steps of a recipe that can run on the training device, and the draws of their parameters for each image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from lesion_exp.augmentation.fit import Fit, frame_size
from lesion_exp.augmentation.fused import FusedColours, Step
from lesion_exp.augmentation.geometry import Border, FusedGeometry, after, in_box
from lesion_exp.augmentation.library import describe, generators
from lesion_exp.augmentation.on_device import BORDERS, HUES, LEVELS, Plan
from lesion_exp.errors import ConfigError


class DeviceSteps:
    """The training steps of a pipeline that can run on a device: one warp, then changes of colour.

    Args:
        steps: the steps, fused by `join`.
        side: side of the result in pixels.
        fit: the frame of an image, see `frame_size`, for steps that begin with no crop of their own.
        share: share of each side of this frame that is kept, in (0, 1].

    Raises:
        ConfigError: a step can only run on the CPU.
    """

    def __init__(self, steps: Sequence[Step], side: int, fit: Fit = "crop", share: float = 1.0) -> None:
        geometry, colour = ([step for _, step in steps] + [None, None])[:2]
        if len(steps) > 2 or not isinstance(geometry, FusedGeometry) or not isinstance(colour, FusedColours | None):
            shown = ", ".join(path for path, step in steps if not isinstance(step, FusedGeometry | FusedColours))
            raise ConfigError(
                f"expected augmentation.device=gpu with a recipe of at most one RandomFitCrop, flips and turns, one "
                f"rotation or affine transform, then brightness, contrast, gamma and hue, got "
                f"{shown or 'another order'}; use augmentation.device=cpu, or one of the recipes light and standard"
            )
        self.side = side
        self.fit: Fit = fit
        self.share = share
        self.geometry = geometry
        self.colour = colour
        for move in self.geometry.moves:
            if getattr(move, "border_mode", cv2.BORDER_CONSTANT) not in BORDERS:
                raise ConfigError(
                    f"expected a border_mode of 0, 1 or 4 with augmentation.device=gpu, got {describe(move)}; use "
                    f"augmentation.device=cpu"
                )

    def plan(self, shape: tuple[int, ...], seed: Sequence[int]) -> Plan:
        """Draws the parameters for an image of `shape` (H, W, 3); they are the same as on the CPU with this `seed`."""
        generator, python_generator = generators(seed)
        drawn = self.geometry.draw(shape, generator, python_generator)
        top, left, height, width = self._frame(shape) if self.geometry.crop is None else drawn.box
        source = after((1, 0, left, 0, 1, top), in_box(drawn.source, height, width, self.side))
        border = drawn.border or Border(cv2.BORDER_REPLICATE, (0, 0, 0), 0)
        box = (left, left + width - 1, top, top + height - 1)
        numbers = (*source, *box, *shape[:2], BORDERS[border.mode], *border.fill, *self.geometry.fill)
        steps = self.colour.draw(python_generator) if self.colour else []
        count = len(self.colour.moves) if self.colour else 0
        tables, kinds = np.zeros((count, 3, 256), np.uint8), np.zeros(count, np.uint8)
        for place, step in enumerate(steps):
            tables[place] = np.stack(step) if isinstance(step, tuple) else step
            kinds[place] = HUES if isinstance(step, tuple) else LEVELS
        return Plan(torch.tensor(numbers, dtype=torch.float32), torch.from_numpy(tables), torch.from_numpy(kinds))

    def _frame(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Returns top, left, height and width of the frame that evaluation uses, too."""
        height, width = frame_size(shape, self.fit, self.share)
        return (shape[0] - height) // 2, (shape[1] - width) // 2, height, width
