"""Images that the initial weights have seen are found by content, by id and by lesion."""

import pandas as pd
import pytest

from lesion_exp.split.manifest import earlier_picture_keys, image_keys
from lesion_exp.split.seen_before import (
    CHOSEN,
    IMAGES,
    LABELS,
    PROBED,
    find_seen,
    same_ids_elsewhere,
    seen_again,
    seen_rows,
)

SALT = "0123456789abcdef"


def table_of(source="clinic", prefix=""):
    ids = [f"{prefix}I{number}" for number in range(6)]
    return pd.DataFrame(
        {
            "image_id": ids,
            "lesion_id": [f"{prefix}L{number // 2}" for number in range(6)],
            "patient_id": None,
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
    nothing = dict.fromkeys(("labels", "probed", "lesions_labels", "lesions_images", "lesions_probed"), 0)
    assert found.parts["test"] == {"all": 4, "images": 1, **nothing}
    assert found.cases == ("I2",)
    assert found.in_words() == "1 of 4 test images without labels"
    assert found.num_seen == 1


def test_another_image_of_a_lesion_counts_by_id_and_source():
    mine = table_of()
    other = mine.iloc[[2]].assign(image_id="I9", sha256="content 9", phash=99)
    assert find_seen(mine, seen_of(other)).parts["test"]["lesions_images"] == 2
    assert find_seen(mine, seen_of(other.assign(source="elsewhere"))).count(IMAGES) == 0


def test_another_lesion_of_a_patient_counts_as_the_groups_of_a_split_do():
    mine = table_of().assign(patient_id=["P0", "P0", "P0", "P0", "P1", "P1"])
    other = mine.iloc[[0]].assign(image_id="I9", lesion_id="L9", sha256="content 9", phash=99)
    found = find_seen(mine, seen_of(other, LABELS))
    assert found.cases == ("I1", "I2", "I3")
    assert [found.parts[part]["lesions_labels"] for part in ("train", "val", "test")] == [1, 1, 2]
    assert find_seen(mine, seen_of(other.assign(source="elsewhere"), LABELS)).count(LABELS) == 0
    older = seen_of(other, LABELS).drop(columns="patient_id")
    assert find_seen(mine, older).count(LABELS) == 0


def test_a_manifest_of_hashes_is_matched_by_content_and_by_id_with_perceptual_hash():
    mine, rows = table_of(), table_of().iloc[[3]].assign(lesion_id=None, source="elsewhere")
    for changed in ({"image_id": "other", "phash": 99}, {"sha256": "other"}):
        seen = seen_rows(rows.assign(split="train", **changed), ("train",), SALT, "run1", LABELS)
        images, related = seen_again(mine, seen)
        assert mine.loc[images, "image_id"].tolist() == ["I3"]
        assert not related.any()


def test_the_choice_of_a_pretrainings_epoch_counts_for_test_images_and_is_no_knowledge_of_labels():
    mine = table_of()
    found = find_seen(mine, seen_of(mine.iloc[[1, 3]], PROBED))
    assert (found.count(LABELS), found.parts["val"]["probed"], found.parts["test"]["probed"]) == (0, 0, 1)
    assert found.in_words() == "2 of 4 test images in the choice of the best epoch of a pretraining"


def test_ids_of_a_combined_set_are_those_of_the_set_alone():
    mine = table_of("ham10000")
    other = mine.iloc[[4]].assign(image_id="ham10000/I9", lesion_id="isic/L2", sha256="content 9", phash=99)
    assert find_seen(mine, seen_of(other)).parts["test"]["lesions_images"] == 2


@pytest.mark.parametrize("name", ["ISIC_0024310", "mel/ISIC_0024310", "ISIC_0024310.JPG", "ham10000/ISIC_0024310"])
def test_a_copy_that_was_saved_again_is_found_whatever_its_data_set_calls_it(name):
    mine = table_of().iloc[[4]].assign(image_id="isic2018/ISIC_0024310", lesion_id=None)
    other = mine.assign(image_id=name, sha256="saved again", source="elsewhere")
    assert find_seen(mine, seen_of(other, LABELS)).parts["test"]["labels"] == 1
    assert find_seen(mine, seen_of(other.assign(phash=99), LABELS)).count(LABELS) == 0


def test_a_copy_is_found_by_the_key_that_older_versions_stored():
    mine = table_of().iloc[[4]].assign(image_id="mel/I4", lesion_id=None)
    seen = seen_of(mine.assign(sha256="saved again"), LABELS)
    assert find_seen(mine, seen.assign(picture_key=earlier_picture_keys(mine, SALT).tolist())).count(LABELS) == 1


def test_lesions_and_patients_of_the_archive_are_the_same_in_all_data_sets():
    mine = table_of("ham10000").iloc[[4]].assign(lesion_id="HAM_0000118")
    for source, lesion in (("isic2019", "HAM_0000118"), ("csv", "HAM_0000118"), ("combined", "isic/HAM_0000118")):
        other = mine.assign(image_id="I9", lesion_id=lesion, source=source, sha256="other", phash=99)
        assert find_seen(mine, seen_of(other, LABELS)).parts["test"]["lesions_labels"] == 1, source


def test_equal_ids_of_two_origins_are_other_lesions_and_are_counted_apart():
    mine = table_of("csv").assign(id_origin="csv-a")
    other = table_of("csv").iloc[[4]].assign(image_id="I9", sha256="other", phash=99)
    for origin, related in (("csv-a", 2), ("csv-b", 0), (None, 0)):
        seen = seen_of(other.assign(id_origin=origin), LABELS)
        assert find_seen(mine, seen).parts["test"]["lesions_labels"] == related, origin
        assert same_ids_elsewhere(mine, seen).sum() == 2 - related


def test_equal_ids_of_all_data_of_the_users_own_are_counted_apart():
    mine = table_of("csv").assign(id_origin="own-a")
    other = table_of("clinic", "clinic/").iloc[[4]].assign(image_id="I9", sha256="other", phash=99)
    for source, origin in (("clinic", "own-b"), ("pseudo", "own-pseudo")):
        rows = other.assign(source=source, id_origin=origin, lesion_id=other["lesion_id"].str.replace("clinic", source))
        seen = seen_of(rows, LABELS)
        assert find_seen(mine, seen).parts["test"]["lesions_labels"] == 0, source
        assert same_ids_elsewhere(mine, seen).sum() == 2, source
    assert same_ids_elsewhere(mine, seen_of(other.assign(id_origin="ph2"), LABELS)).sum() == 0
    old = other.assign(id_origin=None, source="csv", lesion_id="L2")
    assert same_ids_elsewhere(mine, seen_of(old, LABELS)).sum() == 2, "a run of a version that stored no origin"


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
