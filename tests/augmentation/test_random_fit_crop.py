from __future__ import annotations

import numpy as np
import pytest

from lesion_exp.augmentation.fit import fill_colour, fit_to_square, frame_size
from lesion_exp.augmentation.random_fit_crop import RandomFitCrop
from lesion_exp.errors import ConfigError


def boxes(crop, shape, count=200):
    crop.set_random_seed(0)
    return [crop.get_params_dependent_on_data({"shape": shape}, {}) for _ in range(count)]


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_the_whole_frame_is_what_evaluation_shows(fit):
    image = np.random.default_rng(0).integers(0, 256, (48, 48 if fit == "crop" else 64, 3), dtype=np.uint8)
    whole = RandomFitCrop(32, fit, scale=(1, 1), ratio=(1, 1))
    shown, _ = fit_to_square(image, None, 32, fit, fill_colour(whole.fill))
    assert np.array_equal(whole(image=image)["image"], shown)


@pytest.mark.parametrize("shape", [(450, 600, 3), (600, 450, 3), (512, 512, 3), (17, 300, 3)])
@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_area_proportions_and_place(shape, fit):
    height, width = frame_size(shape, fit)
    areas = []
    for drawn in boxes(RandomFitCrop(64, fit, scale=(0.4, 0.9), ratio=(0.9, 1.1)), shape):
        box_height, box_width = drawn["box"]
        area = box_height * box_width / (height * width)
        areas.append(area)
        assert 0.4 - 0.08 <= area <= 0.9 + 0.08
        if min(shape[:2]) > 100:
            stretch = (box_width / width) / (box_height / height)
            assert 0.88 <= stretch <= 1.12
        assert drawn["top"] <= shape[0] / 2 <= drawn["top"] + box_height, "the middle of the image is kept"
        assert drawn["left"] <= shape[1] / 2 <= drawn["left"] + box_width
        if fit != "pad":
            assert drawn["top"] >= 0
            assert drawn["left"] >= 0
            assert drawn["top"] + box_height <= shape[0]
            assert drawn["left"] + box_width <= shape[1]
    assert max(areas) - min(areas) > 0.3, "the whole range of scales is drawn, whatever the aspect"


def test_padding_is_the_fill_colour_and_no_mask():
    image, mask = np.full((20, 60, 3), 200, np.uint8), np.full((20, 60), 255, np.uint8)
    made = RandomFitCrop(30, "pad", scale=(1, 1), ratio=(1, 1), fill=(0.5, 0, 1))(image=image, mask=mask)
    assert made["image"][0, 0].tolist() == [128, 0, 255]
    assert made["mask"][0, 0] == 0
    assert made["mask"][15, 15] == 255


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": (0.8, 0.5)}, "scale"),
        ({"scale": (0.5, 1.5)}, "scale"),
        ({"scale": (0, 1)}, "scale"),
        ({"ratio": (0, 1)}, "ratio"),
        ({"fit": "stretch"}, "fit"),
        ({"fill": (124, 116, 104)}, "fill"),
    ],
)
def test_impossible_values_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        RandomFitCrop(64, **arguments)
