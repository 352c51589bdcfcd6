from __future__ import annotations

import itertools

import pytest
import torch

from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.tta import flips8, mean_probabilities, tta_views


def images() -> torch.Tensor:
    return torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def test_flips8_are_the_eight_different_symmetries() -> None:
    views = list(flips8(images()))
    assert len(views) == 8
    assert torch.equal(views[0], images())
    for first, second in itertools.combinations(views, 2):
        assert not torch.equal(first, second)
    turned = [torch.rot90(images(), turns, (2, 3)) for turns in range(4)]
    for symmetry in [*turned, *(view.flip(3) for view in turned)]:
        assert sum(torch.equal(symmetry, view) for view in views) == 1


def test_none_is_the_image_as_it_is() -> None:
    (view,) = tta_views("none")(images())
    assert torch.equal(view, images())


def test_probabilities_are_averaged_not_logits() -> None:
    def predict(batch: torch.Tensor) -> torch.Tensor:
        return 5 * batch[:, :, 0, 1]

    views = list(flips8(images()))
    expected = torch.stack([predict(view).softmax(1) for view in views]).mean(0)
    found = mean_probabilities(predict, images(), tta_views("flips8"))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(1), torch.ones(2))
    assert not torch.allclose(found, torch.stack([predict(view) for view in views]).mean(0).softmax(1))


def test_the_mean_over_flips8_does_not_depend_on_the_orientation() -> None:
    def predict(batch: torch.Tensor) -> torch.Tensor:
        return 5 * batch[:, :, 0, 1].bfloat16()

    views = tta_views("flips8")
    upright = mean_probabilities(predict, images(), views)
    assert upright.dtype == torch.float32
    torch.testing.assert_close(mean_probabilities(predict, images().rot90(1, (2, 3)), views), upright)


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'flips8'\?"):
        tta_views("flip8")


def test_multicrop_shows_nine_parts_at_full_size_in_order() -> None:
    """Rows and columns are numbered in two channels: each crop's mean is where its middle lies."""
    side = 20
    steps = torch.arange(side, dtype=torch.float32)
    image = torch.stack([steps[:, None].expand(side, side), steps[None, :].expand(side, side)])[None]
    views = list(tta_views("multicrop")(image))
    assert [tuple(view.shape) for view in views] == [(1, 2, side, side)] * 9
    middles = [tuple(view.mean(dim=(0, 2, 3)).tolist()) for view in views]
    for found, expected in zip(middles, itertools.product((7.5, 9.5, 11.5), repeat=2), strict=True):
        assert found == pytest.approx(expected)


def test_a_mean_over_crops_of_an_even_image_is_that_of_the_image() -> None:
    even = torch.full((2, 3, 10, 10), 0.3)
    found = mean_probabilities(lambda view: view.mean(dim=(2, 3)), even, tta_views("multicrop"))
    torch.testing.assert_close(found, torch.full((2, 3), 1 / 3))
