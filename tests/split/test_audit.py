import json

import pytest

from lesion_exp.split.audit import audit
from lesion_exp.split.by_image import ByImage
from lesion_exp.split.grouped import Grouped
from lesion_exp.split.groups import assign_groups
from lesion_exp.split.resample_then_split import ResampleThenSplit

THRESHOLD = 0.985
RATIOS = {"train": 0.7, "val": 0.15, "test": 0.15}


def audited(table, parts):
    return audit(table.assign(group=assign_groups(table, THRESHOLD), split=parts), THRESHOLD)


def crossing(result):
    return {kind: found.count for kind, found in result.crossings.items() if found.count}


def test_each_kind_of_crossing_is_counted_by_itself(make_table):
    parts = ["train", "test", "val", "train", "test"]
    labels = ["nv", "mel", "nv", "mel", "nv"]
    lesion = audited(make_table(labels, lesions=["A", "A", "B", None, None]), parts)
    assert crossing(lesion) == {"lesions": 1, "groups": 1}
    assert lesion.crossings["lesions"].cases == ["A"]
    assert crossing(audited(make_table(labels, patients=["P", None, "P", "Q", "Q"]), parts)) == {
        "patients": 2,
        "groups": 2,
    }
    assert crossing(audited(make_table(labels, contents=[0, 1, 2, 3, 0]), parts)) == {
        "identical_images": 1,
        "groups": 1,
    }
    assert audited(make_table(labels), parts).passed


def test_a_mirrored_picture_in_another_part_is_found(make_picture, make_table_of_pictures):
    images = [make_picture(1), make_picture(2), make_picture(3), make_picture(1)[:, ::-1]]
    result = audited(make_table_of_pictures(images), ["train", "val", "test", "test"])
    assert crossing(result) == {"near_duplicate_pairs": 1, "groups": 1}
    assert result.crossings["near_duplicate_pairs"].cases == ["img0000 ~ img0003"]


def test_the_share_of_the_test_part_that_was_trained_on(make_table):
    table = make_table(
        ["nv", "nv", "mel", "nv", "mel", "nv"], ["A", "A", "B", "C", "B", None], contents=[0, 1, 2, 3, 2, 4]
    )
    result = audited(table, ["train", "test", "train", "test", "test", "val"])
    assert result.test_rows_with_lesion_in_train == pytest.approx({"all": 2 / 3, "nv": 0.5, "mel": 1.0})
    assert result.test_rows_with_image_in_train == pytest.approx({"all": 1 / 3, "nv": 0.0, "mel": 1.0})


def test_one_id_of_two_sources_is_one_lesion(make_table):
    """Sets of one archive share ids; the reader of combined sets makes those of all others different."""
    table = make_table(["nv"] * 3, ["isic/1", "isic/1", "b/1"]).assign(source=["a", "b", "b"])
    result = audited(table, ["train", "test", "val"])
    assert crossing(result) == {"lesions": 1, "groups": 1}
    assert result.test_rows_with_lesion_in_train["all"] == 1


def test_the_make_up_of_the_parts(lesions_table):
    split = Grouped(0, RATIOS).split(lesions_table)
    result = audit(split, THRESHOLD)
    for part, facts in result.parts.items():
        rows = split[split["split"] == part]
        assert facts["images"] == len(rows)
        assert facts["lesions"] == rows["lesion_id"].nunique()
        assert facts["counts"] == {name: int((rows["label"] == name).sum()) for name in ("bkl", "df", "mel", "nv")}
        assert sum(facts["prevalence"].values()) == pytest.approx(1)
        assert sum(result.prevalence_shift[part].values()) == pytest.approx(0)
    assert result.warnings == []


def test_image_by_image_leaks_and_the_audit_says_so_in_words(lesions_table):
    result = audit(ByImage(0, RATIOS).split(lesions_table), THRESHOLD)
    assert not result.passed
    assert result.test_rows_with_lesion_in_train["all"] > 0.3
    assert "audit FAILED" in result.summary()
    assert max(map(len, result.summary().splitlines())) <= 80


def test_resampling_before_splitting_leaks_nearly_everything(lesions_table):
    split = ResampleThenSplit(0, RATIOS, samples_per_class=500).split(lesions_table)
    assert split["row_id"].is_unique
    assert split["label"].value_counts().to_dict() == dict.fromkeys(["bkl", "df", "mel", "nv"], 500)
    result = audit(split, THRESHOLD)
    assert result.test_rows_with_image_in_train["all"] > 0.9
    assert any("test does not have the class shares" in warning for warning in result.warnings)
    assert max(map(len, result.summary().splitlines())) <= 80


def test_without_a_number_resampling_goes_up_to_the_largest_class(lesions_table):
    split = ResampleThenSplit(0, RATIOS, None).split(lesions_table)
    assert set(split["label"].value_counts()) == {lesions_table["label"].value_counts().max()}


def test_the_audit_is_plain_json(lesions_table):
    result = audit(Grouped(0, RATIOS).split(lesions_table), THRESHOLD)
    said = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert said["passed"] is True
    assert said["crossings"]["lesions"] == {"count": 0, "cases": []}


def test_images_that_name_neither_lesion_nor_patient_are_no_proof(make_table):
    parts = ["train", "test", "val", "train"]
    named = audited(make_table(["nv"] * 4, lesions=["A", "B", "C", "D"]), parts)
    some = audited(make_table(["nv"] * 4, lesions=["A", "B", None, None], patients=[None, None, "P", None]), parts)
    none = audited(make_table(["nv"] * 4), parts)
    assert [result.unnamed_images for result in (named, some, none)] == [0, 1, 4]
    assert "no patient, lesion or image" in named.summary()
    assert "note:" not in named.summary()
    assert "1 images have neither" in some.summary()
    assert "passed: no image" in none.summary()
    assert "all images have neither" in none.summary()
