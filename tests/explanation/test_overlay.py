import numpy as np

from lesion_exp.explanation.overlay import overlay

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_an_image_without_evidence_is_seen_as_it_is():
    assert np.array_equal(overlay(IMAGE, np.zeros((40, 60))), IMAGE)


def test_colour_lies_where_the_evidence_is_and_a_small_map_is_scaled():
    evidence = np.zeros((4, 6), dtype=np.float32)
    evidence[0, 0] = 1
    drawn = overlay(IMAGE, evidence)
    assert drawn.shape == IMAGE.shape
    assert drawn.dtype == np.uint8
    assert np.array_equal(drawn[20:, 30:], IMAGE[20:, 30:])
    changed = np.abs(drawn[:5, :5].astype(int) - IMAGE[:5, :5]).mean()
    assert changed > 20
