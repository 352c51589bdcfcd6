import cv2
import numpy as np
import pytest

from lesion_exp.explanation.saliency_map import centre_hit, overlay, pointing_hit, share_inside

MASK = np.zeros((4, 4), dtype=bool)
MASK[:2, :2] = True
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
GREY = np.repeat(cv2.cvtColor(IMAGE, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)


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


def test_an_image_without_saliency_is_grey():
    assert np.array_equal(overlay(IMAGE, np.zeros((40, 60))), GREY)


def test_colour_lies_where_the_saliency_is_and_a_small_map_is_scaled():
    saliency = np.zeros((4, 6), dtype=np.float32)
    saliency[0, 0] = 1
    drawn = overlay(IMAGE, saliency)
    assert drawn.shape == IMAGE.shape
    assert drawn.dtype == np.uint8
    assert np.array_equal(drawn[20:, 30:], GREY[20:, 30:])
    red, _, blue = drawn[0, 0].astype(int) - GREY[0, 0]
    assert red > blue + 50
