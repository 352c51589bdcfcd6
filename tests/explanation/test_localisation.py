import numpy as np
import pytest

from lesion_exp.explanation.localisation import centre_hit, pointing_hit, share_inside

MASK = np.zeros((4, 4), dtype=bool)
MASK[:2, :2] = True


def at(*places, value=1.0):
    saliency = np.zeros((4, 4), dtype=np.float32)
    for place in places:
        saliency[place] = value
    return saliency


@pytest.mark.parametrize(
    ("saliency", "hit", "share"),
    [
        (at((0, 0)), 1.0, 1.0),
        (at((3, 3)), 0.0, 0.0),
        (at((0, 0), (3, 3)), 0.5, 0.5),
        (at((0, 0)) + at((3, 3), value=0.25), 1.0, 0.8),
        (np.ones((4, 4), dtype=np.float32), 0.25, 0.25),
    ],
)
def test_where_the_highest_pixel_and_the_sum_lie(saliency, hit, share):
    assert pointing_hit(saliency, MASK) == pytest.approx(hit)
    assert share_inside(saliency, MASK) == pytest.approx(share)


def test_a_map_without_saliency_has_neither():
    assert np.isnan(pointing_hit(at(), MASK))
    assert np.isnan(share_inside(at(), MASK))


@pytest.mark.parametrize(("side", "hit"), [(4, 0.25), (3, 1.0)])
def test_the_centre_is_one_pixel_or_four(side, hit):
    mask = np.zeros((side, side), dtype=bool)
    mask[:2, :2] = True
    assert centre_hit(mask) == hit
