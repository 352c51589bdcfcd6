"""Test-time augmentation: the mean probability over several views of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from lesion_exp.choices import FLIPS8, NONE
from lesion_exp.errors import check_choice

CROP_SHARE: Final = 0.8
"""The side of a crop of `multicrop`, as a share of the image's side."""
Views = Callable[[Tensor], Iterator[Tensor]]
"""A function that yields the views of images, float (N, C, H, W), each with the shape of the images."""


def tta_views(name: str) -> Views:
    """Returns the views called `name`: `none` (the unchanged images), `flips8` or `multicrop`.

    Raises:
        ConfigError: the name is unknown.
    """
    views = {NONE: _as_they_are, FLIPS8: flips8, "multicrop": multicrop}
    check_choice("tta", name, views)
    return views[name]


def flips8(images: Tensor) -> Iterator[Tensor]:
    """Yields the 8 symmetries of a square: transposed or not, flipped left to right or not, upside down or not.

    Dermoscopic images have no preferred orientation, so all 8 are possible images of the same lesion.

    Args:
        images: float (N, C, S, S), square.
    """
    for number in range(8):
        yield symmetry(images, number)


def symmetry(images: Tensor, number: int) -> Tensor:
    """Returns view `number` (0 to 7) of `flips8`, of the same shape and type; 0 is the unchanged image.

    Args:
        images: (..., S, S), square.
        number: transposed from 4 on; flipped left to right if odd; then upside down if 2 or 3 above a multiple of 4.
    """
    assert images.shape[-2] == images.shape[-1], "transposing needs square images"
    oriented = images.transpose(-2, -1) if number >= 4 else images
    return torch.flip(oriented, ([], [-1], [-2], [-2, -1])[number % 4])


def multicrop(images: Tensor) -> Iterator[Tensor]:
    """Yields 9 crops in 3 rows and 3 columns, each with 0.8 of the image's side and scaled to the size of the image.

    The crops overlap by more than half, so that most of them contain a lesion near the middle as a whole.

    Args:
        images: float (N, C, H, W).
    """
    height, width = images.shape[2:]
    tall, wide = (max(round(CROP_SHARE * side), 1) for side in (height, width))
    for top in (0, (height - tall) // 2, height - tall):
        for left in (0, (width - wide) // 2, width - wide):
            crop = images[:, :, top : top + tall, left : left + wide]
            yield functional.interpolate(crop, size=(height, width), mode="bilinear", align_corners=False)


def mean_probabilities(predict: Callable[[Tensor], Tensor], images: Tensor, views: Views) -> Tensor:
    """Returns the mean of the softmax probabilities over the views, float32 (N, classes).

    Args:
        predict: a function from images to unnormalised logits, (N, classes).
        images: float (N, C, H, W).
        views: see `tta_views`.
    """
    probs = [predict(view).float().softmax(dim=1) for view in views(images)]
    return torch.stack(probs).mean(dim=0)


def probabilities_and_energies(
    predict: Callable[[Tensor], Tensor], images: Tensor, views: Views
) -> tuple[Tensor, Tensor]:
    """Returns the mean probabilities (see `mean_probabilities`) and the mean energies over the views, float32 (N,).

    The energy of a view is -log sum_c exp(logit_c).
    """
    probs, energies = [], []
    for view in views(images):
        logits = predict(view).float()
        probs.append(logits.softmax(dim=1))
        energies.append(-logits.logsumexp(dim=1))
    return torch.stack(probs).mean(dim=0), torch.stack(energies).mean(dim=0)


def _as_they_are(images: Tensor) -> Iterator[Tensor]:
    yield images
