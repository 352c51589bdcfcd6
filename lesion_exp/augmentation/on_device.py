"""Augments a whole batch on the training device: parameters are drawn per image and applied to all images at once."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lesion_exp.augmentation.fit import AVERAGE_FROM
from lesion_exp.image_file import UInt8Array

BORDERS: Final = {cv2.BORDER_CONSTANT: 0.0, cv2.BORDER_REPLICATE: 1.0, cv2.BORDER_REFLECT_101: 2.0}
"""Supported border modes of OpenCV -> their numbers in a plan."""
LEVELS, HUES = 1, 2
"""Kinds of a step in a plan: tables for red, green and blue, or for hue, saturation and value."""
_PER_HUE_SECTOR: Final = 30
"""OpenCV's hues, of two degrees each, in one of the six sectors of the colour circle."""


class Plan(NamedTuple):
    """The augmentation of an image as tensors. In a batch, every tensor has a leading dimension N."""

    numbers: Tensor
    """float32 (19,): the affine map from a pixel (x, y) of the result to one of the image (6), first and last column
    and first and last row of the box (4), height and width of the image (2), number of the border mode (1), colours
    outside the box and outside the image (6)."""
    tables: Tensor
    """uint8 (steps, 3, 256): lookup tables of the three channels."""
    kinds: Tensor
    """uint8 (steps,): 0: no change; 1: the tables are for red, green and blue; 2: for hue, saturation and value."""


def on_canvas(image: UInt8Array, height: int, width: int) -> UInt8Array:
    """Puts `image`, (H, W, 3), into the upper left of a canvas, so that images of a batch have the same size."""
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas


def apply_plan(canvases: Tensor, plan: Plan, side: int) -> Tensor:
    """Augments a batch.

    Args:
        canvases: uint8 (N, 3, H, W), the images on canvases of one size.
        plan: the plans of the N images.
        side: side of the result in pixels.

    Returns:
        uint8 (N, 3, side, side) in channels-last memory format.
    """
    images = _warped(canvases, plan.numbers, side).round_().clamp_(0, 255)
    for place in range(plan.kinds.shape[1]):
        kind, tables = plan.kinds[:, place].view(-1, 1, 1, 1), plan.tables[:, place]
        levels = torch.where(kind == LEVELS, _looked_up(images, tables), images)
        hues = _to_rgb(_looked_up(_to_hsv(images), tables))
        images = torch.where(kind == HUES, hues, levels)
    return images.to(torch.uint8).contiguous(memory_format=torch.channels_last)


def _warped(canvases: Tensor, numbers: Tensor, side: int) -> Tensor:
    """Returns the warped images, float32 (N, 3, side, side).

    Pixels are interpolated linearly. If the images are reduced by `AVERAGE_FROM` or more, several samples are averaged.
    """
    height, width = canvases.shape[2:]
    shrink = min(height, width) / side
    parts = math.ceil(shrink) if shrink >= AVERAGE_FROM else 1
    offsets = (torch.arange(side * parts, device=canvases.device) + 0.5) / parts - 0.5
    a, b, c, d, e, f = (numbers[:, place].view(-1, 1, 1) for place in range(6))
    x = a * offsets + b * offsets.view(-1, 1) + c
    y = d * offsets + e * offsets.view(-1, 1) + f
    mode = numbers[:, 12].view(-1, 1, 1)
    left, right, top, bottom = (numbers[:, place].view(-1, 1, 1) for place in range(6, 10))
    rows, columns = (numbers[:, place].view(-1, 1, 1) for place in (10, 11))
    inside = _share(x, left, right) * _share(y, top, bottom)
    x, y = _brought_in(x, left, right, mode), _brought_in(y, top, bottom, mode)
    in_image = _share(x, torch.zeros_like(columns), columns - 1) * _share(y, torch.zeros_like(rows), rows - 1)
    x, y = torch.minimum(x.clamp(min=0), columns - 1), torch.minimum(y.clamp(min=0), rows - 1)
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    shown = F.grid_sample(canvases.float(), grid, align_corners=True)
    shown = _blended(shown, numbers[:, 16:19], in_image)
    shown = torch.where((mode == 0).unsqueeze(1), _blended(shown, numbers[:, 13:16], inside), shown)
    return F.avg_pool2d(shown, parts) if parts > 1 else shown


def _share(place: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Returns the share of an interpolated value at `place` that comes from pixels within [low, high]."""
    return torch.minimum(place - low + 1, high - place + 1).clamp(0, 1)


def _brought_in(place: Tensor, low: Tensor, high: Tensor, mode: Tensor) -> Tensor:
    """Maps `place` into [low, high]: mirrored for the border mode BORDER_REFLECT_101, otherwise clamped."""
    extent = (high - low).clamp(min=1)
    turned = torch.remainder(place - low, 2 * extent)
    mirrored = low + torch.minimum(turned, 2 * extent - turned)
    return torch.where(
        mode == BORDERS[cv2.BORDER_REFLECT_101], mirrored, torch.minimum(torch.maximum(place, low), high)
    )


def _blended(images: Tensor, colours: Tensor, share: Tensor) -> Tensor:
    weight = share.unsqueeze(1)
    return images * weight + colours[:, :, None, None] * (1 - weight)


def _looked_up(images: Tensor, tables: Tensor) -> Tensor:
    """Applies lookup tables, uint8 (N, 3, 256), to images with integer values as floats (N, 3, H, W)."""
    return tables.float().gather(2, images.long().flatten(2)).view_as(images)


def _to_hsv(images: Tensor) -> Tensor:
    """Converts RGB to hue (0 to 179), saturation and value (0 to 255), rounded as OpenCV does for uint8."""
    red, green, blue = images.unbind(1)
    value, _ = images.max(dim=1)
    spread = value - images.amin(dim=1)
    safe = spread.clamp(min=1)
    sector = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = torch.remainder((torch.remainder(sector, 6) * _PER_HUE_SECTOR).round(), 6 * _PER_HUE_SECTOR)
    saturation = (255 * spread / value.clamp(min=1)).round()
    return torch.stack([torch.where(spread > 0, hue, 0.0), saturation, value], dim=1)


def _to_rgb(images: Tensor) -> Tensor:
    hue, saturation, value = images.unbind(1)
    sector, chroma = hue / _PER_HUE_SECTOR, saturation / 255
    channels = []
    for offset in (5.0, 3.0, 1.0):
        k = torch.remainder(offset + sector, 6)
        channels.append(value - value * chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=1).round_()
