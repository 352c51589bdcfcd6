"""A fixed set of views: which values are allowed, and which of the views an epoch shows."""

import numpy as np
import pytest
import torch

from lesion_exp.augmentation.fixed_views import NUM_FLIPS, views_of_epoch
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.tta import flips8


def test_as_many_flips_as_test_time_augmentation_averages():
    assert len(list(flips8(torch.zeros(1, 3, 2, 2)))) == NUM_FLIPS


def test_an_epoch_shows_each_view_about_equally_often_and_the_next_epoch_others():
    first, again, later, other = (views_of_epoch(*key, 8000, 8) for key in ((0, 0), (0, 0), (0, 1), (1, 0)))
    assert np.array_equal(first, again)
    for drawn in (first, later, other):
        assert np.bincount(drawn, minlength=8) == pytest.approx(np.full(8, 1000), abs=150)
    for drawn in (later, other):
        assert np.mean(first == drawn) == pytest.approx(1 / 8, abs=0.03)


@pytest.mark.parametrize(
    ("recipe", "overrides", "said"),
    [
        ("none", ["augmentation.views=8"], "augmentation.views=flips8"),
        ("light", ["augmentation.views=flips8"], "augmentation.views=8"),
        ("light", ["augmentation.views=0"], "augmentation.views=8"),
        ("light", ["augmentation.views=flips4"], "augmentation.views=8"),
        ("light", ["augmentation.views=4", "augmentation.device=gpu"], "augmentation.device=cpu"),
    ],
)
def test_what_cannot_be_a_fixed_set_is_refused_with_a_remedy(load, recipe, overrides, said):
    with pytest.raises(ConfigError, match=said):
        load(recipe, *overrides)
    mended = [text for text in overrides if text.partition("=")[0] != said.partition("=")[0]]
    assert load(recipe, *mended, said).has_fixed_views


@pytest.mark.parametrize(("recipe", "views", "num"), [("none", "flips8", 8), ("light", 3, 3)])
def test_the_views_are_among_the_steps_that_are_described(load, recipe, views, num):
    assert f"one of {num} views" in " ".join(load(recipe, f"augmentation.views={views}").describe())
    assert "views" not in " ".join(load(recipe).describe())
