import numpy as np
import pytest

from lesion_exp.verbs.shortcuts.perturbations import paint_out


def skin_with(colour, height=60, width=80):
    """Uneven skin with a lesion of one colour, and its mask."""
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([200 + columns * 0.3, 160 + rows * 0.3, 140 + 0 * rows], axis=2)
    image += np.random.default_rng(0).normal(0, 3, (height, width, 1))
    mask = np.where((rows - 25) ** 2 + (columns - 40) ** 2 < 15**2, 255, 0).astype(np.uint8)
    image[mask > 0] = colour
    return np.clip(image, 0, 255).astype(np.uint8), mask


def painted(colour):
    return paint_out(*skin_with(colour), np.random.default_rng(1))


def test_nothing_of_the_lesion_is_left():
    assert np.array_equal(painted((60, 30, 20)), painted((0, 255, 0)))


def test_the_area_looks_like_the_skin_around_it():
    _image, mask = skin_with((60, 30, 20))
    whole, _ = skin_with((0, 0, 0))
    found = painted((60, 30, 20)).astype(float)
    expected = np.array([200 + 40 * 0.3, 160 + 25 * 0.3, 140])
    assert np.abs(found[mask > 0].mean(axis=0) - expected).max() < 8
    grain = np.diff(found.mean(axis=2), axis=1)
    assert grain[15:35, 35:45].std() == pytest.approx(np.diff(whole.mean(axis=2), axis=1)[:8].std(), rel=0.5)


def test_far_from_the_lesion_nothing_changes():
    image, _ = skin_with((60, 30, 20))
    found = painted((60, 30, 20))
    assert np.array_equal(found[:5], image[:5])
    assert np.array_equal(found[:, -12:], image[:, -12:])
    empty = np.zeros(image.shape[:2], np.uint8)
    assert np.array_equal(paint_out(image, empty, np.random.default_rng(1)), image)


def test_an_image_that_is_all_lesion_takes_one_colour():
    image, mask = skin_with((60, 30, 20))
    found = paint_out(image, np.full_like(mask, 255), np.random.default_rng(1))
    assert np.ptp(found.reshape(-1, 3), axis=0).max() == 0
    assert found.mean() > image.mean()
