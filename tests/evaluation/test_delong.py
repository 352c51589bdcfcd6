from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from lesion_exp.evaluation.delong import PlacedArea, delong_p, placed_area

MakeTable = Callable[..., pd.DataFrame]


def placed(scores, positive, lesion=None) -> PlacedArea:
    lesion = np.arange(len(scores)) if lesion is None else np.asarray(lesion)
    area = placed_area(np.asarray(scores, dtype=float), np.asarray(positive, dtype=bool), lesion, int(lesion.max()) + 1)
    assert area is not None
    return area


def two_models(size: int = 150, seed: int = 0):
    rng = np.random.default_rng(seed)
    positive = rng.random(size) < 0.3
    first = (positive + rng.normal(size=size)).round(1)  # rounding makes ties
    return positive, first, (0.6 * first + 0.6 * rng.normal(size=size)).round(1)


def p_by_definition(positive, first, second) -> tuple[float, float]:
    """Difference and p-value from the placements of every pair, as DeLong et al. write them."""
    placements = []
    for scores in (first, second):
        higher = scores[positive][:, None] - scores[~positive][None, :]
        wins = (higher > 0) + 0.5 * (higher == 0)
        placements.append((wins.mean(axis=1), wins.mean(axis=0)))
    (pos_1, neg_1), (pos_2, neg_2) = placements
    s10, s01 = np.cov(pos_1, pos_2), np.cov(neg_1, neg_2)
    covariance = s10 / len(pos_1) + s01 / len(neg_1)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    difference = pos_1.mean() - pos_2.mean()
    return difference, 2 * stats.norm.sf(abs(difference) / variance**0.5)


def test_a_case_worked_by_hand() -> None:
    """Positives 3 and 1, negatives 2 and 0: placements 1 and 1/2 of the positives, 1/2 and 1 of the negatives."""
    area = placed([3, 1, 2, 0], [True, True, False, False])
    assert area.auroc == 0.75
    # var = (1/8) / 2 + (1/8) / 2 = 1/8: sample variances of (1, 1/2), each over its 2 images
    assert np.square(area.influence).sum() == pytest.approx(1 / 8)
    assert delong_p(0.25, area.influence) == pytest.approx(2 * stats.norm.sf(0.25 * 8**0.5))


@pytest.mark.parametrize("seed", range(4))
def test_single_images_give_the_definition(seed: int) -> None:
    positive, first, second = two_models(seed=seed)
    one, two = placed(first, positive), placed(second, positive)
    assert one.auroc == pytest.approx(roc_auc_score(positive, first))
    difference, p_value = p_by_definition(positive, first, second)
    assert one.auroc - two.auroc == pytest.approx(difference)
    assert delong_p(difference, one.influence - two.influence) == pytest.approx(p_value)


def test_copies_of_images_of_a_lesion_add_no_evidence() -> None:
    positive, first, second = two_models()
    lesion = np.arange(len(positive))

    def p_value(copies: int, grouped: bool) -> float:
        groups = np.tile(lesion, copies) if grouped else np.arange(copies * len(lesion))
        one, two = (placed(np.tile(s, copies), np.tile(positive, copies), groups) for s in (first, second))
        found = delong_p(one.auroc - two.auroc, one.influence - two.influence)
        assert found is not None
        return found

    assert p_value(4, grouped=True) == pytest.approx(p_value(1, grouped=True))
    assert p_value(4, grouped=False) < 0.1 * p_value(1, grouped=True)  # DeLong's own test would be fooled


def test_its_error_is_that_of_a_bootstrap_over_lesions() -> None:
    rng = np.random.default_rng(1)
    lesion = np.repeat(np.arange(150), 2)
    positive = np.repeat(rng.random(150) < 0.4, 2)
    shared = np.repeat(rng.normal(size=150), 2)  # photographs of a lesion look alike
    scores = positive + shared + 0.3 * rng.normal(size=300)
    draws = []
    for _ in range(600):
        chosen = rng.integers(0, 150, 150)
        rows = np.concatenate([2 * chosen, 2 * chosen + 1])
        draws.append(roc_auc_score(positive[rows], scores[rows]))
    error = np.square(placed(scores, positive, lesion).influence).sum() ** 0.5
    assert error == pytest.approx(np.std(draws), rel=0.12)
    assert error > 1.2 * np.square(placed(scores, positive).influence).sum() ** 0.5


def test_equal_scores_have_p_1_and_perfect_ones_no_test() -> None:
    positive = np.array([True, True, False, False])
    area = placed([4, 3, 2, 1], positive)
    assert delong_p(0.0, area.influence - area.influence) == 1.0
    assert delong_p(0.5, np.zeros(4)) is None


@pytest.mark.parametrize("num_positive", [0, 1, 9, 10])
def test_fewer_than_two_lesions_of_a_kind_have_no_variance(num_positive: int) -> None:
    positive = np.arange(10) < num_positive
    assert placed_area(np.arange(10.0), positive, np.arange(10), 10) is None
