from __future__ import annotations

import numpy as np
import pytest

from lesion_exp.augmentation.synthetic_dark_corner import SyntheticDarkCorner
from lesion_exp.augmentation.synthetic_hair import SyntheticHair
from lesion_exp.errors import ConfigError


@pytest.mark.parametrize("transform", [SyntheticHair(p=1), SyntheticDarkCorner(p=1)], ids=["hair", "corner"])
def test_a_seed_draws_the_same_and_the_mask_stays(transform, lesion):
    image, mask = lesion(64, 64)
    before = image.copy()
    made = []
    for seed in (1, 1, 2):
        transform.set_random_seed(seed)
        drawn = transform(image=image, mask=mask)
        made.append(drawn["image"])
        assert np.array_equal(drawn["mask"], mask)
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    assert not np.array_equal(made[0], image)
    assert np.array_equal(image, before)


def test_the_number_of_hairs_is_the_users(lesion):
    image, _ = lesion(96, 96)

    def covered(count):
        hair = SyntheticHair(count=(count, count), p=1)
        hair.set_random_seed(0)
        return (hair(image=image)["image"] != image).any(axis=2).mean()

    assert covered(0) == 0
    assert 0 < covered(2) < covered(30)


def test_corners_are_dark_and_the_middle_is_not(lesion):
    image, _ = lesion(100, 100)
    made = SyntheticDarkCorner(radius=(0.5, 0.5), p=1)(image=image)["image"]
    assert made[:3, :3].mean() < 0.1 * image[:3, :3].mean()
    assert np.array_equal(made[40:60, 40:60], image[40:60, 40:60])
    untouched = SyntheticDarkCorner(darkness=0, p=1)(image=image)["image"]
    assert np.array_equal(untouched, image)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (SyntheticHair, {"count": (5, 2)}),
        (SyntheticHair, {"width": (0.1,)}),
        (SyntheticHair, {"length": (-1, 1)}),
        (SyntheticDarkCorner, {"radius": (0, 1)}),
        (SyntheticDarkCorner, {"softness": -1}),
        (SyntheticDarkCorner, {"darkness": 2}),
    ],
)
def test_impossible_values_are_refused(make, arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        make(**arguments)
