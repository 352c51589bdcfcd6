"""Images that the initial weights have seen are found by content, by id and by lesion."""

import pandas as pd
import pytest

from lesion_exp.split.manifest import image_keys
from lesion_exp.split.seen_before import CHOSEN, IMAGES, LABELS, find_seen, seen_rows

SALT = "0123456789abcdef"


def table_of(source="clinic", prefix=""):
    ids = [f"{prefix}I{number}" for number in range(6)]
    return pd.DataFrame(
        {
            "image_id": ids,
            "lesion_id": [f"{prefix}L{number // 2}" for number in range(6)],
            "source": source,
            "sha256": [f"content {number}" for number in range(6)],
            "phash": range(6),
            "split": ["train", "val", "test", "test", "test", "test"],
        }
    )


def seen_of(rows, use=IMAGES, keys=True):
    manifest = rows.assign(split="train")
    if keys:
        manifest = pd.concat([manifest, image_keys(rows, SALT)], axis=1)
    return seen_rows(manifest.drop(columns=["sha256", "phash"]), ("train",), SALT, "run1", use)


def test_the_same_content_was_seen_whatever_its_name():
    seen = seen_of(table_of("archive", "X").iloc[[2]])
    found = find_seen(table_of(), seen)
    assert found.parts["test"] == {"all": 4, "labels": 0, "images": 1, "lesions_labels": 0, "lesions_images": 0}
    assert found.cases == ("I2",)
    assert found.in_words() == "1 of 4 test images without labels"
    assert found.num_seen == 1


def test_another_image_of_a_lesion_counts_by_id_and_source():
    mine = table_of()
    other = mine.iloc[[2]].assign(image_id="I9", sha256="content 9", phash=99)
    assert find_seen(mine, seen_of(other)).parts["test"]["lesions_images"] == 2
    assert find_seen(mine, seen_of(other.assign(source="elsewhere"))).count(IMAGES) == 0


def test_ids_of_a_combined_set_are_those_of_the_set_alone():
    mine = table_of("ham10000")
    other = mine.iloc[[4]].assign(image_id="ham10000/I9", lesion_id="isic/L2", sha256="content 9", phash=99)
    assert find_seen(mine, seen_of(other)).parts["test"]["lesions_images"] == 2


def test_labels_come_before_images_and_a_run_without_keys_is_matched_by_ids():
    mine = table_of()
    both = pd.concat([seen_of(mine.iloc[[1]], LABELS, keys=False), seen_of(mine.iloc[[1, 5]], IMAGES)])
    found = find_seen(mine, both)
    assert found.parts["val"]["labels"] == 1
    assert found.parts["val"]["images"] == 0
    assert found.parts["test"]["images"] == 1
    assert found.parts["train"]["lesions_labels"] == 1
    assert found.in_words() == "2 of 4 test images without labels, 1 of 1 validation images with their labels"


def test_an_image_by_which_an_epoch_was_chosen_may_be_a_validation_image_again_and_no_test_image():
    mine = table_of()
    again = find_seen(mine, seen_of(mine.iloc[[1]], CHOSEN))
    assert again.count(LABELS) == 0
    leak = find_seen(mine, seen_of(mine.iloc[[3]], CHOSEN))
    assert leak.parts["test"]["labels"] == 1
    assert leak.parts["test"]["lesions_labels"] == 1


@pytest.mark.parametrize("use", [LABELS, IMAGES])
def test_what_was_not_seen_is_not_told(use):
    other = table_of("archive", "X").assign(sha256=[f"other {number}" for number in range(6)], phash=range(90, 96))
    found = find_seen(table_of(), seen_of(other, use))
    assert found.count(use) == 0
    assert found.in_words() == ""
