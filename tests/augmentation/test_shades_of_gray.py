from __future__ import annotations

import numpy as np
import pytest

from lesion_exp.augmentation.shades_of_gray import ShadesOfGray
from lesion_exp.errors import ConfigError


def neutral(low=20, high=200, shape=(40, 60)):
    grey = np.random.default_rng(0).integers(low, high, (*shape, 1), dtype=np.uint8)
    return np.repeat(grey, 3, axis=2)


@pytest.mark.parametrize("power", [1, 3, 6, 12])
def test_a_neutral_image_stays(power):
    image = neutral()
    assert np.array_equal(ShadesOfGray(power)(image=image)["image"], image)


@pytest.mark.parametrize("power", [1, 6])
def test_a_colour_cast_is_taken_out(power):
    cast = np.clip(neutral() * np.array([1.2, 0.9, 0.6]) + 0.5, 0, 255).astype(np.uint8)
    made = ShadesOfGray(power)(image=cast)["image"].astype(int)
    assert np.abs(made - made.mean(axis=2, keepdims=True)).max() <= 2
    before = cast.astype(int)
    assert np.abs(before - before.mean(axis=2, keepdims=True)).max() > 50


def test_it_is_the_formula_of_the_paper():
    image = np.random.default_rng(1).integers(5, 180, (30, 30, 3), dtype=np.uint8)
    minkowski = (image.astype(float) ** 6).mean(axis=(0, 1)) ** (1 / 6)
    expected = image / (minkowski / np.linalg.norm(minkowski) * np.sqrt(3))
    made = ShadesOfGray(6)(image=image)["image"]
    assert np.abs(made - np.clip(expected, 0, 255)).max() <= 0.51


def test_saturated_pixels_do_not_count():
    image = neutral(20, 200)
    glare = image.copy()
    glare[:10] = (255, 180, 90)
    kept = ShadesOfGray(saturation=250)(image=glare)["image"]
    assert np.array_equal(kept[10:], image[10:])
    counted = ShadesOfGray(saturation=256)(image=glare)["image"]
    assert not np.array_equal(counted[10:], image[10:])


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (120, 0, 0)])
def test_what_has_no_estimate_stays(colour):
    image = np.full((10, 10, 3), colour, np.uint8)
    assert np.array_equal(ShadesOfGray()(image=image)["image"], image)


def test_the_mask_stays(lesion):
    image, mask = lesion()
    assert np.array_equal(ShadesOfGray()(image=image, mask=mask)["mask"], mask)


@pytest.mark.parametrize("arguments", [{"power": 0.5}, {"power": 100}, {"saturation": 0}, {"saturation": 300}])
def test_impossible_values_are_refused(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        ShadesOfGray(**arguments)
