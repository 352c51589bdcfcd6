import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion_exp.errors import ConfigError
from lesion_exp.fingerprint import fingerprint
from lesion_exp.split import groups
from lesion_exp.split.groups import MAX_DISTANCE, assign_groups, near_duplicate_pairs

THRESHOLD = 0.985
ids = st.one_of(st.none(), st.integers(0, 6).map(str))
rows = st.lists(st.tuples(ids, ids, st.integers(0, 20)), min_size=1, max_size=40)
COUNT = 40


def built(make_table, drawn):
    lesions, patients, contents = map(list, zip(*drawn, strict=True))
    return make_table(["nv"] * len(drawn), lesions, patients, contents)


def sets_of(table, group):
    return {frozenset(images) for images in table["image_id"].groupby(group.to_numpy()).agg(list)}


def reference(table):
    """Groups by joining, again and again, whatever shares a known value."""
    groups = [{row} for row in range(len(table))]
    for column in ("lesion_id", "patient_id", "sha256"):
        for value in table[column].dropna().unique():
            together = set(np.flatnonzero((table[column] == value).to_numpy()))
            touched = [group for group in groups if group & together]
            groups = [group for group in groups if not group & together] + [set().union(*touched)]
    names = table["image_id"].to_numpy()
    return {frozenset(names[list(group)]) for group in groups}


@given(rows)
@settings(deadline=None, max_examples=50)
def test_groups_are_what_chains_of_equal_values_join(make_table, drawn):
    table = built(make_table, drawn)
    assert sets_of(table, assign_groups(table, THRESHOLD)) == reference(table)


@given(rows, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=50)
def test_names_do_not_depend_on_the_order_of_rows(make_table, drawn, random):
    table = built(make_table, drawn)
    order = list(range(len(table)))
    random.shuffle(order)
    group = assign_groups(table, THRESHOLD)
    assert assign_groups(table.iloc[order], THRESHOLD).sort_index().equals(group)


def test_a_missing_id_joins_nothing(make_table):
    table = make_table(["nv"] * 3, [None, np.nan, None])
    assert assign_groups(table, THRESHOLD).nunique() == 3


def test_a_patient_known_in_some_rows_of_a_lesion_takes_the_others_along(make_table):
    table = make_table(["nv"] * 5, ["L1", "L1", "L2", None, "L3"], ["P1", None, "P1", "P1", None])
    assert assign_groups(table, THRESHOLD).tolist() == ["img0000"] * 4 + ["img0004"]


def test_what_two_sets_of_one_archive_share_is_one_group(make_table):
    table = make_table(["nv"] * 5, ["isic/1", "isic/1", None, None, "b/1"]).assign(source=["a", "b", "a", "b", "b"])
    assert assign_groups(table, THRESHOLD).nunique() == 4
    shared = table.assign(shared_image_id=[None, "isic/7", "isic/9", "isic/9", "isic/7"])
    assert assign_groups(shared, THRESHOLD).nunique() == 2


def test_near_duplicates_with_different_lesions_are_one_group(make_picture, make_table_of_pictures):
    images = [make_picture(1), make_picture(2), make_picture(1)[:, ::-1]]
    table = make_table_of_pictures(images).assign(lesion_id=["A", "B", "C"])
    assert assign_groups(table, THRESHOLD).tolist() == ["img0000", "img0001", "img0000"]


def test_a_chain_is_one_group(make_table):
    count = 300
    table = make_table(["nv"] * count, [f"L{k // 2}" for k in range(count)], [f"P{(k + 1) // 2}" for k in range(count)])
    assert assign_groups(table, THRESHOLD).nunique() == 1
    assert isinstance(assign_groups(table, THRESHOLD), pd.Series)


def saved_as_jpeg(image):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)


COPIES = {
    "saved again": saved_as_jpeg,
    "half size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "darker": lambda image: (image * 0.8).astype(np.uint8),
    "brighter": lambda image: np.clip(image * 1.05 + 8.0, 0, 255).astype(np.uint8),
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "turned left": lambda image: np.rot90(image),
    "turned right": lambda image: np.rot90(image, 3),
    "turned by half": lambda image: np.rot90(image, 2),
    "transposed": lambda image: image.transpose(1, 0, 2),
    "transposed on the other diagonal": lambda image: np.rot90(image, 2).transpose(1, 0, 2),
    "turned and saved again": lambda image: saved_as_jpeg(np.ascontiguousarray(np.rot90(image))),
}


@pytest.fixture(scope="module")
def pictures(make_picture):
    return [make_picture(seed) for seed in range(COUNT)]


def pairs_of(table, threshold=0.985):
    found = near_duplicate_pairs(table, threshold)
    return set(zip(found["first"], found["second"], strict=True))


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_a_changed_copy_is_found_and_nothing_else(pictures, make_table_of_pictures, change):
    table = make_table_of_pictures([*pictures, *(change(image) for image in pictures)])
    assert pairs_of(table) == {(k, k + COUNT) for k in range(COUNT)}


def test_different_pictures_are_no_pair(pictures, make_table_of_pictures):
    assert pairs_of(make_table_of_pictures(pictures)) == set()


def test_pairs_do_not_depend_on_the_order_of_rows(pictures, make_table_of_pictures):
    table = make_table_of_pictures([*pictures[:10], *(image[:, ::-1] for image in pictures[:10])])
    shuffled = table.sample(frac=1, random_state=4)
    ids = shuffled["image_id"].to_numpy()
    named = {frozenset((ids[a], ids[b])) for a, b in pairs_of(shuffled)}
    straight = table["image_id"].to_numpy()
    assert named == {frozenset((straight[a], straight[b])) for a, b in pairs_of(table)}


def test_pairs_of_the_same_pictures_are_computed_once(pictures, make_table_of_pictures, monkeypatch):
    copies = [*pictures[:6], *(saved_as_jpeg(image[:, ::-1]) for image in pictures[:6]), pictures[0]]
    table = make_table_of_pictures(copies)
    computed = []
    real = groups.near_duplicate_pairs
    monkeypatch.setattr(groups, "near_duplicate_pairs", lambda *given: computed.append(given) or real(*given))
    for each in (table, table.sample(frac=1, random_state=4), table):
        pd.testing.assert_frame_equal(groups.known_pairs(each, THRESHOLD), real(each, THRESHOLD))
    assert len(computed) == 1
    assert len(groups.known_pairs(table, 0.99999)) < len(groups.known_pairs(table, THRESHOLD))
    assert len(computed) == 2, "another threshold is computed anew"
    assert groups.known_pairs(table[:5], THRESHOLD).empty


def test_flat_images_are_not_all_the_same_picture(make_table_of_pictures):
    flat = [np.full((40, 50, 3), level, np.uint8) for level in (0, 90, 91, 255)]
    assert pairs_of(make_table_of_pictures(flat)) == set()


def test_every_pair_within_the_distance_is_a_candidate(make_table):
    rng = np.random.default_rng(0)
    table = make_table(["nv"] * 120)
    hashes = table["phash"].to_numpy().copy()
    for row in range(60):
        turned = rng.choice(64, row % (MAX_DISTANCE + 2), replace=False)
        hashes[60 + row] = hashes[row] ^ np.bitwise_or.reduce(
            np.uint64(1) << turned.astype(np.uint64), initial=np.uint64(0)
        )
    same = table["thumbnail"].to_numpy().copy()
    same[60:] = same[:60]
    found = pairs_of(table.assign(phash=hashes, thumbnail=same))
    assert found == {(row, 60 + row) for row in range(60) if row % (MAX_DISTANCE + 2) <= MAX_DISTANCE}


def test_small_chunks_give_the_same_pairs(pictures, make_table_of_pictures, monkeypatch):
    table = make_table_of_pictures([*pictures, *(saved_as_jpeg(image) for image in pictures)])
    whole = pairs_of(table)
    monkeypatch.setattr(groups, "CHUNK", 3)
    assert pairs_of(table) == whole


def test_a_stricter_threshold_keeps_a_part_of_the_pairs(pictures, make_table_of_pictures):
    table = make_table_of_pictures([*pictures, *(saved_as_jpeg(image) for image in pictures)])
    assert pairs_of(table, 0.99999) < pairs_of(table, 0.985)


@pytest.mark.parametrize("threshold", [0, -1, 1.5])
def test_a_threshold_that_is_no_correlation_is_refused(make_table, threshold):
    with pytest.raises(ConfigError, match="near_duplicate_threshold"):
        near_duplicate_pairs(make_table(["nv"]), threshold)


def test_a_fingerprint_is_a_hash_of_64_bits_and_a_thumbnail_of_256_pixels(pictures):
    hashed, thumbnail = fingerprint(pictures[0])
    assert 0 < hashed < 2**64
    assert len(thumbnail) == 256
