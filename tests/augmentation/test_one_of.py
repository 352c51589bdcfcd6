from __future__ import annotations

import albumentations
import numpy as np
import pytest

from lesion_exp.augmentation.library import walk
from lesion_exp.augmentation.one_of import OneOf
from lesion_exp.errors import ConfigError


def test_p_of_a_choice_is_its_weight():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0] = 255
    choice = OneOf(
        {"often": albumentations.HorizontalFlip(p=0.9), "never": albumentations.VerticalFlip(p=0), "off": None}, p=1
    )
    for _ in range(20):
        assert choice(image=image)["image"][0, 1, 0] == 255


def test_choices_keep_their_names_in_paths():
    inner = OneOf({"flip": albumentations.HorizontalFlip()}, p=1)
    paths = [path for path, _ in walk(OneOf({"first": inner}, p=1), "augmentation.transforms.any")]
    assert paths[-1] == "augmentation.transforms.any.transforms.first.transforms.flip"


@pytest.mark.parametrize("choices", [{}, {"a": None}, {"a": albumentations.NoOp(p=0)}], ids=["none", "off", "zero"])
def test_a_choice_out_of_nothing_is_refused(choices):
    with pytest.raises(ConfigError, match="null"):
        OneOf(choices)


def test_what_is_no_transform_is_refused():
    with pytest.raises(ConfigError, match=r"transforms\.blur.*_target_"):
        OneOf({"blur": 3})
