from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lesion_exp.evaluation.delong import placed_area
from lesion_exp.evaluation.limits import (
    Limits,
    area_limits,
    bounded_limits,
    combined_limits,
    mean_limits,
    overlap_limits,
    proportion_limits,
    wilson,
)


def seen(right: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """So many images of lesions of their own, of which the first are right."""
    return (np.arange(number) < right).astype(float), np.ones(number)


def clustered(rng: np.random.Generator, share: float, lesions: int) -> tuple[np.ndarray, np.ndarray]:
    """Right images and images of lesions that have one to four of them, mostly right or wrong together."""
    images = rng.integers(1, 5, lesions)
    noise = 0.8**0.5 * rng.normal(size=(lesions, 1)) + 0.2**0.5 * rng.normal(size=(lesions, 4))
    right = (noise < stats.norm.ppf(share)) & (np.arange(4) < images[:, None])
    return right.sum(axis=1).astype(float), images.astype(float)


@pytest.mark.parametrize(("right", "number"), [(16, 16), (0, 3), (7, 20), (995, 1000)])
def test_wilson_is_scipys(right: int, number: int) -> None:
    expected = stats.binomtest(right, number).proportion_ci(method="wilson")
    assert wilson(right / number, number) == pytest.approx((expected.low, expected.high))


def test_all_right_is_no_certainty() -> None:
    for right, number in ((16, 16), (0, 3)):
        found = proportion_limits(*seen(right, number))
        assert (found.value, found.low, found.high) == pytest.approx((right / number, *wilson(right / number, number)))
        assert found.high - found.low > 0.15


def test_many_images_of_lesions_of_their_own_have_wilsons_interval() -> None:
    found = proportion_limits(*seen(300, 1000))
    assert (found.low, found.high) == pytest.approx(wilson(0.3, 1000), abs=1e-3)


def test_copies_of_images_tell_nothing_new() -> None:
    right, images = seen(40, 60)
    alone, copies = proportion_limits(right, images), proportion_limits(5 * right, 5 * images)
    assert (copies.low, copies.high) == pytest.approx((alone.low, alone.high))


@pytest.mark.parametrize("lesions", [10, 100])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_proportions_hold_the_truth(share: float, lesions: int) -> None:
    """The nominal 95%, less the sampling error of 400 tests."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        found = proportion_limits(*clustered(rng, share, lesions))
        held += found.low <= share <= found.high
    assert held / 400 >= 0.925


def test_nothing_to_count_is_between_0_and_1() -> None:
    found = proportion_limits(np.zeros(4), np.zeros(4), otherwise=1.0)
    assert (found.value, found.low, found.high) == (1.0, 0.0, 1.0)
    assert np.isnan(proportion_limits(np.zeros(4), np.zeros(4)).value)


def test_f1_follows_the_share_of_overlap() -> None:
    hits, either = seen(12, 12)
    found = overlap_limits(hits, either)
    assert (found.value, found.high) == (1.0, 1.0)
    low = wilson(1.0, 12)[0]
    assert found.low == pytest.approx(2 * low / (1 + low))


@pytest.mark.parametrize("positives", [5, 20, 60])
@pytest.mark.parametrize("shift", [0.5, 1.5, 2.5])
def test_areas_hold_the_truth(shift: float, positives: int) -> None:
    rng = np.random.default_rng(1)
    truth, held = stats.norm.cdf(shift / 2**0.5), 0
    positive = np.arange(positives + 200) < positives
    for _ in range(200):
        scores = rng.normal(size=len(positive)) + shift * positive
        placed = placed_area(scores, positive, np.arange(len(scores)), len(scores))
        assert placed is not None
        found = area_limits(placed)
        held += found.low <= truth <= found.high
    assert held / 200 >= 0.92


def test_a_perfect_area_is_no_certainty() -> None:
    positive = np.arange(30) < 4
    placed = placed_area(positive.astype(float), positive, np.arange(30), 30)
    assert placed is not None
    found = area_limits(placed)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low < 0.5


def test_draws_that_do_not_vary_leave_the_lesions() -> None:
    found = bounded_limits(0.2, np.full(100, 0.2), lesions=9, highest=0.2)
    assert found.high == pytest.approx(0.2)
    assert 0.08 < found.low < 0.15


def test_a_metric_that_can_be_negative_has_the_interval_of_its_place_between_its_ends() -> None:
    shares = np.random.default_rng(0).beta(8, 2, 100)
    share, found = bounded_limits(0.8, shares, 40), bounded_limits(0.6, 2 * shares - 1, 40, lowest=-1.0)
    assert (found.low, found.high) == pytest.approx((2 * share.low - 1, 2 * share.high - 1))


def test_a_difference_of_independent_proportions_is_newcombes() -> None:
    """56 of 70 less 48 of 80 has the interval 0.0524 to 0.3339 in Newcombe 1998, Statistics in Medicine 17:873."""
    first, second = (Limits(k / n, *wilson(k / n, n)) for k, n in ((56, 70), (48, 80)))
    found = combined_limits((1.0, -1.0), (first, second))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_what_two_models_have_in_common_leaves_their_difference() -> None:
    rng = np.random.default_rng(2)
    right = (rng.random(200) < 0.8).astype(float)
    other = np.where(rng.random(200) < 0.03, 1 - right, right)
    one, two = (proportion_limits(answers, np.ones(200)) for answers in (right, other))
    paired = combined_limits((1.0, -1.0), (one, two))
    alone = combined_limits((1.0, -1.0), [Limits(part.value, part.low, part.high) for part in (one, two)])
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_a_mean_of_perfect_recalls_is_no_certainty() -> None:
    classes = np.arange(103) < 100, np.arange(103) >= 100
    found = mean_limits([proportion_limits(members.astype(float), members.astype(float)) for members in classes])
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.6 < found.low < 0.8  # half of the distance of 3 of 3, which has 0.44
