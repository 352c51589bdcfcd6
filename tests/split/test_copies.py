import cv2
import numpy as np
import pytest

from lesion_exp.split.audit import audit
from lesion_exp.split.copies import agreeing, copied_pairs, local_features
from lesion_exp.split.groups import COPY_ID, DEFAULT_THRESHOLD, assign_groups
from lesion_exp.split.overlap import overlap
from lesion_exp.synthetic_artefacts import draw_hair


def textured(seed):
    """A picture with spots of several sizes, as skin has."""
    rng = np.random.default_rng(seed)
    picture = np.full((150, 200, 3), 120.0)
    for size, contrast in ((6, 30), (20, 20), (50, 12)):
        spots = rng.normal(0, contrast, (size, size * 4 // 3, 3))
        picture += cv2.resize(spots, (200, 150), interpolation=cv2.INTER_CUBIC)
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pictures():
    return [textured(seed) for seed in range(8)]


def crop(picture, share):
    height, width = (round(side * (1 - share)) for side in picture.shape[:2])
    top, left = picture.shape[0] - height, (picture.shape[1] - width) // 2
    return cv2.resize(np.ascontiguousarray(picture[top:, left : left + width]), (200, 150))


CHANGES = {
    "crop of 15%": lambda picture: crop(picture, 0.15),
    "crop of 40%": lambda picture: crop(picture, 0.4),
    "hair": lambda picture: draw_hair(picture, np.random.default_rng(0)),
    "brightness": lambda picture: np.clip(picture * 1.3, 0, 255).astype(np.uint8),
    "turned": lambda picture: np.ascontiguousarray(np.rot90(picture)),
    "enlarged": lambda picture: cv2.resize(picture, None, fx=3, fy=3),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_among_other_pictures(pictures, change):
    table = [*pictures, CHANGES[change](pictures[3])]
    found = copied_pairs(table.__getitem__, len(table))
    assert found[["first", "second"]].to_numpy().tolist() == [[3, 8]]
    assert found["inliers"].min() >= 12


def test_different_pictures_and_pictures_without_features_are_no_copies(pictures):
    flat = np.full((150, 200, 3), 120, np.uint8)
    table = [*pictures, flat, flat]
    assert copied_pairs(table.__getitem__, len(table)).empty
    assert agreeing(local_features(flat), local_features(pictures[0])) == 0
    assert copied_pairs([flat].__getitem__, 1).empty


def test_features_that_move_differently_do_not_agree(pictures):
    """All features of a picture are there, at the places of others: no movement puts them where they belong."""
    whole = local_features(pictures[0])
    rng = np.random.default_rng(0)
    scattered = whole._replace(points=rng.permutation(whole.points))
    assert agreeing(whole, whole) > 100
    assert agreeing(whole, scattered) < 12


def test_progress_counts_pictures(pictures):
    told = []
    copied_pairs(pictures.__getitem__, 3, lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_copies_are_one_group_and_cross_in_the_audit(make_table):
    table = make_table(["nv"] * 4, lesions=["A", "B", "C", "D"]).assign(**{COPY_ID: [None, "img0001", "img0001", None]})
    table = table.assign(group=assign_groups(table, DEFAULT_THRESHOLD), split=["train", "train", "test", "test"])
    assert table["group"].tolist() == ["img0000", "img0001", "img0001", "img0003"]
    assert audit(table, DEFAULT_THRESHOLD).crossings["copies"].count == 1
    found = overlap(table, "test", "train", DEFAULT_THRESHOLD)
    assert found.touched["copies"]["all"] == found.touched["any"]["all"] == 1
    assert "copies" not in audit(table.drop(columns=COPY_ID), DEFAULT_THRESHOLD).crossings
