import numpy as np

from lesion_exp.data.lesion_dataset import OUTLINE, apply_mask, crop_to_lesion

IMAGE = np.full((60, 80, 3), 200, np.uint8)
MASK = np.zeros((60, 80), np.uint8)
MASK[20:40, 30:50] = 255


def test_crop_keeps_the_lesion_with_its_margin():
    image, mask = crop_to_lesion(IMAGE, MASK, 0.1)
    assert image.shape == (24, 24, 3)
    assert mask.sum() == MASK.sum()


def test_crop_stops_at_the_border_of_the_image():
    assert crop_to_lesion(IMAGE, MASK, 5.0)[0].shape == IMAGE.shape


def test_an_empty_mask_crops_nothing():
    assert crop_to_lesion(IMAGE, np.zeros_like(MASK), 0.1)[0].shape == IMAGE.shape


def test_background_removal_leaves_the_lesion_alone():
    removed = apply_mask(IMAGE, MASK, "background")
    assert (removed[MASK > 0] == 200).all()
    assert (removed[MASK == 0] == 0).all()


def test_the_channel_is_the_mask():
    stacked = apply_mask(IMAGE, MASK, "channel")
    assert stacked.shape == (60, 80, 4)
    assert np.array_equal(stacked[..., 3], MASK)


def test_the_overlay_draws_the_outline_and_nothing_else():
    drawn = apply_mask(IMAGE, MASK, "overlay")
    changed = (drawn != IMAGE).any(axis=2)
    assert (drawn[changed] == OUTLINE).all()
    assert changed[20, 30:50].all()
    assert not changed[25:35, 35:45].any()
    assert (IMAGE == 200).all()
