"""Test-time augmentation: the mean probability over views of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from lesion_exp.errors import check_choice

CROP_SHARE: Final = 0.8
"""Of the image's side, in `multicrop`."""
Views = Callable[[Tensor], Iterator[Tensor]]
"""From images, float (N, C, H, W), to their views, each of the same shape, one after the other."""


def tta_views(name: str) -> Views:
    """The views called `name`: `none` (the images as they are), `flips8` or `multicrop`.

    Raises:
        ConfigError: the name is unknown.
    """
    views = {"none": _as_they_are, "flips8": flips8, "multicrop": multicrop}
    check_choice("tta", name, views)
    return views[name]


def flips8(images: Tensor) -> Iterator[Tensor]:
    """The 8 symmetries of a square: transposed or not, flipped left to right or not, upside down or not.

    A dermoscopic image has no upper side, so all 8 are images of the same lesion.

    Args:
        images: float (N, C, S, S), square.
    """
    assert images.shape[2] == images.shape[3], "transposing needs square images"
    for oriented in (images, images.transpose(2, 3)):
        for dims in ([], [3], [2], [2, 3]):
            yield torch.flip(oriented, dims)


def multicrop(images: Tensor) -> Iterator[Tensor]:
    """9 crops in 3 rows and 3 columns, each 0.8 of the side and scaled back to the whole of it.

    They overlap by half and more, so that a lesion near the middle is whole in most of them.

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
    """The mean of the softmax probabilities over the views, float32 (N, classes).

    Args:
        predict: from images to unnormalised logits, (N, classes).
        images: float (N, C, H, W).
        views: see `tta_views`.
    """
    probs = [predict(view).float().softmax(dim=1) for view in views(images)]
    return torch.stack(probs).mean(dim=0)


def probabilities_and_energies(
    predict: Callable[[Tensor], Tensor], images: Tensor, views: Views
) -> tuple[Tensor, Tensor]:
    """What `mean_probabilities` gives, and the mean energy -log sum_c exp(logit_c) over the views, float32 (N,)."""
    probs, energies = [], []
    for view in views(images):
        logits = predict(view).float()
        probs.append(logits.softmax(dim=1))
        energies.append(-logits.logsumexp(dim=1))
    return torch.stack(probs).mean(dim=0), torch.stack(energies).mean(dim=0)


def _as_they_are(images: Tensor) -> Iterator[Tensor]:
    yield images
