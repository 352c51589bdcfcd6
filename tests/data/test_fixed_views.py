"""Samples of a fixed set of views: what an epoch shows is one of them, the same whoever asks."""

import numpy as np
import pytest
import torch

from lesion_exp.augmentation.fixed_views import FixedView, num_views
from lesion_exp.data.lesion_dataset import LesionDataset
from lesion_exp.evaluation.tta import flips8
from lesion_exp.training.build import make_datamodule
from lesion_exp.training.data import load_data, split_data
from tests.tiny_job import shared_root, tiny_job

__all__ = ["shared_root", "tiny_job"]

FLIPS = ("augmentation=none", "augmentation.views=flips8")
DRAWS = ("augmentation=light", "augmentation.views=3")


@pytest.fixture(scope="module")
def datamodule(tiny_job):
    def make(*overrides):
        config = tiny_job(*overrides).config
        return make_datamodule(config, split_data(config, load_data(config)))

    return make


def fixed(data, view, rows=None):
    table = data.parts["train"] if rows is None else rows
    training = not view.is_flip
    return LesionDataset(table, data.store, data.pipeline, data.classes, data.sample, training=training, view=view)


@pytest.mark.parametrize("kind", [FLIPS, DRAWS])
def test_an_epoch_shows_one_of_the_views_of_each_image(datamodule, kind):
    data = datamodule(*kind)
    seen, numbers = data.dataset("train", training=True), set()
    views = [fixed(data, FixedView(kind == FLIPS, number)) for number in range(num_views(data.pipeline.views))]
    for epoch in range(3):
        for position in range(10):
            view = seen.view_at(epoch, position)
            shown = seen[(epoch, position)]["image"]
            assert torch.equal(shown, views[view.number][(0, position)]["image"])
            assert sum(torch.equal(shown, other[(0, position)]["image"]) for other in views) == 1
            numbers.add(view.number)
    assert len(numbers) > 2


@pytest.mark.parametrize("kind", [FLIPS, DRAWS])
def test_flips_are_those_of_test_time_augmentation_for_every_recipe(datamodule, kind):
    data = datamodule(*kind)
    plain = data.dataset("val")[(0, 3)]["image"]
    found = [fixed(data, FixedView(True, number), data.parts["val"])[(0, 3)]["image"] for number in range(8)]
    expected = [view[0] for view in flips8(plain[None])]
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_a_draw_belongs_to_the_image_and_not_to_its_place_or_the_seed(datamodule):
    data, other = datamodule(*DRAWS), datamodule(*DRAWS, "seed=5")
    rows, view = data.parts["train"], FixedView(False, 2)
    there = fixed(other, view, rows.iloc[::-1].reset_index(drop=True))
    for position in range(5):
        ours = fixed(data, view)[(0, position)]["image"]
        assert torch.equal(ours, there[(1, len(rows) - 1 - position)]["image"])
    assert not np.array_equal(
        *(
            [each.dataset("train", training=True).view_at(0, place).number for place in range(20)]
            for each in (data, other)
        )
    ), "which view is shown follows the seed"


def test_evaluation_shows_the_image_as_it_is(datamodule):
    plain, viewed = datamodule("augmentation=none"), datamodule(*FLIPS)
    for position in range(5):
        pair = [data.dataset("val")[(0, position)]["image"] for data in (plain, viewed)]
        assert torch.equal(*pair)
