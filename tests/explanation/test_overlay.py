import cv2
import numpy as np

from lesion_exp.explanation.overlay import overlay

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
GREY = np.repeat(cv2.cvtColor(IMAGE, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)


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
