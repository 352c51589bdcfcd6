from __future__ import annotations

import cv2
import numpy as np
import pytest

from lesion_exp.augmentation.border_crop import BorderCrop
from lesion_exp.errors import ConfigError


def field_of_view(height, width, radius, lesion=True):
    """Skin within a circle in the middle, black outside; a black lesion in it; and the lesion's mask."""
    image, mask = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
    middle = (width // 2, height // 2)
    cv2.circle(image, middle, radius, (210, 170, 150), cv2.FILLED)
    if lesion:
        cv2.circle(mask, middle, radius // 4, 255, cv2.FILLED)
        image[mask > 0] = (12, 8, 8)
    return image, mask


@pytest.mark.parametrize("margin", [0.0, 0.1, 0.35])
def test_the_circle_is_found(margin):
    image, mask = field_of_view(150, 200, 60)
    made = BorderCrop(margin=margin)(image=image, mask=mask)
    side = 2 * 60 * (1 - margin)
    assert made["image"].shape[:2] == pytest.approx((side, side), abs=5)
    assert made["mask"].shape == made["image"].shape[:2]
    dark = made["image"].max(axis=2) < 100
    if margin == 0.35:
        assert np.array_equal(dark, made["mask"] > 0), "only the lesion is black, and the mask is still on it"
    assert (made["mask"] > 0).sum() == (mask > 0).sum()


def test_a_circle_that_is_cut_by_the_image():
    image, mask = field_of_view(150, 200, 90)
    made = BorderCrop()(image=image, mask=mask)["image"]
    assert made.shape[:2] == pytest.approx((150, 162), abs=5)


def test_a_circle_off_the_middle():
    image = np.zeros((150, 200, 3), np.uint8)
    cv2.circle(image, (130, 70), 50, (210, 170, 150), cv2.FILLED)
    top, bottom, left, right = BorderCrop(margin=0).box(image)
    assert (top, bottom, left, right) == pytest.approx((20, 121, 80, 181), abs=3)


def test_an_image_without_a_border_stays(lesion):
    image, mask = lesion()
    made = BorderCrop()(image=image, mask=mask)
    assert np.array_equal(made["image"], image)
    assert np.array_equal(made["mask"], mask)


def test_a_border_that_is_not_dark_enough_stays():
    image, _ = field_of_view(150, 200, 60, lesion=False)
    image[image.max(axis=2) == 0] = (30, 25, 22)  # a seventh of the skin, above the threshold of contrast
    assert BorderCrop(threshold=0.5, contrast=0.3)(image=image)["image"].shape != image.shape
    assert np.array_equal(BorderCrop(threshold=0.5, contrast=0.1)(image=image)["image"], image)


@pytest.mark.parametrize("level", [0, 90, 255])
def test_an_empty_image_stays(level):
    image = np.full((40, 50, 3), level, np.uint8)
    assert np.array_equal(BorderCrop()(image=image)["image"], image)


@pytest.mark.parametrize("arguments", [{"threshold": 1.5}, {"margin": 0.8}, {"margin": -0.1}, {"contrast": 2}])
def test_impossible_values_are_refused(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        BorderCrop(**arguments)
