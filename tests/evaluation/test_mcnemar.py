from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from lesion_exp.evaluation.paired_tests import lesions_to_change, mcnemar_p, surplus_of


def is_significant(p_value: float) -> bool:
    return p_value < 0.05


def p_of(first, second, lesion, num_lesions) -> float:
    return mcnemar_p(surplus_of(first, second, lesion, num_lesions))


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (1, 0), (5, 5), (9, 2), (2, 9), (40, 22), (900, 800)])
def test_single_images_give_the_exact_binomial_test(only_first: int, only_second: int) -> None:
    surplus = np.array([1] * only_first + [-1] * only_second + [0] * 7)
    total = only_first + only_second
    expected = stats.binomtest(only_first, total).pvalue if total else 1.0
    assert mcnemar_p(surplus) == pytest.approx(expected)


def test_several_images_give_the_share_of_all_assignments_of_signs() -> None:
    surplus = np.array([3, 1, -2, 2, 1, 0, -1])
    sizes = np.abs(surplus[surplus != 0])
    sums = [abs(np.dot(signs, sizes)) for signs in product([-1, 1], repeat=len(sizes))]
    expected = np.mean([total >= abs(surplus.sum()) for total in sums])
    assert mcnemar_p(surplus) == pytest.approx(expected)


def test_copies_of_images_of_a_lesion_add_no_evidence() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 2, (2, 60))
    lesion = np.arange(60)
    alone = p_of(first, second, lesion, 60)
    copied = p_of(np.tile(first, 3), np.tile(second, 3), np.tile(lesion, 3), 60)
    assert copied == pytest.approx(alone)


def test_swapping_the_models_changes_nothing() -> None:
    surplus = np.array([2, 1, 1, -1, 3, 0])
    assert mcnemar_p(surplus) == mcnemar_p(-surplus)


def smallest_change(first, second, lesion, num_lesions) -> int | None:
    """By trying every choice of lesions that the leader could read otherwise."""
    leader, other = (first, second) if first.sum() >= second.sum() else (second, first)
    before = is_significant(p_of(leader, other, lesion, num_lesions))
    changeable = [index for index in range(num_lesions) if (leader[lesion == index] == before).any()]
    for number in range(1, len(changeable) + 1):
        for chosen in combinations(changeable, number):
            changed = np.where(np.isin(lesion, chosen), 0 if before else 1, leader)
            if is_significant(p_of(changed, other, lesion, num_lesions)) != before:
                return number
    return None


@pytest.mark.parametrize(
    ("both", "only_first", "only_second", "neither"),
    [(3, 2, 2, 3), (2, 4, 1, 3), (4, 6, 0, 2), (1, 9, 0, 1), (2, 1, 9, 1), (0, 0, 0, 9), (9, 0, 0, 0)],
)
def test_the_number_to_change_is_the_smallest_there_is(both, only_first, only_second, neither) -> None:
    first = np.array([1] * both + [1] * only_first + [0] * only_second + [0] * neither)
    second = np.array([1] * both + [0] * only_first + [1] * only_second + [0] * neither)
    lesion = np.arange(len(first))
    found = lesions_to_change(first, second, lesion, len(first), is_significant)
    assert found == smallest_change(first, second, lesion, len(first))


@pytest.mark.parametrize("seed", range(8))
def test_of_lesions_with_several_images_it_is_the_smallest_or_next_to_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lesion = np.repeat(np.arange(11), rng.integers(1, 4, 11))
    skill = 0.95 if seed % 2 else 0.6
    first, second = (rng.random(len(lesion)) < skill).astype(int), (rng.random(len(lesion)) < 0.35).astype(int)
    found = lesions_to_change(first, second, lesion, 11, is_significant)
    expected = smallest_change(first, second, lesion, 11)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert expected <= found <= expected + 1


def test_a_lesion_changes_with_all_its_images() -> None:
    """Six lesions of two images, on which both are wrong: six won lesions are significant, five are not."""
    wrong = np.zeros(20, dtype=np.int64)
    lesion = np.repeat(np.arange(10), 2)
    assert lesions_to_change(wrong, wrong, lesion, 10, is_significant) == 6
