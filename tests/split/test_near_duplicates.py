import cv2
import numpy as np
import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.fingerprint import fingerprint
from lesion_exp.split import near_duplicates
from lesion_exp.split.near_duplicates import MAX_DISTANCE, near_duplicate_pairs

COUNT = 40


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
    monkeypatch.setattr(near_duplicates, "CHUNK", 3)
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
