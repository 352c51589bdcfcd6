import time

import pandas as pd
import pytest

from lesion_exp.split import overlap as module
from lesion_exp.split.groups import DEFAULT_THRESHOLD, assign_groups
from lesion_exp.split.overlap import overlap

LABELS = ["mel", "nv", "nv", "mel", "nv", "nv", "bkl"]
PARTS = ["train", "train", "train", "test", "test", "test", "test"]


def found(table, part="test", other="train"):
    return overlap(table.assign(split=PARTS), part, other, DEFAULT_THRESHOLD)


def test_each_kind_is_counted_by_class_and_an_image_is_touched_once(make_table):
    """Images 3 and 4 share a lesion with 0 and 1, image 4 also its file with 1, and image 5 a patient with 2."""
    table = make_table(
        LABELS,
        lesions=["A", "B", None, "A", "B", None, "C"],
        patients=[None, None, "P", None, None, "P", None],
        contents=[0, 1, 2, 3, 1, 4, 5],
    )
    result = found(table)
    assert result.images == {"all": 4, "bkl": 1, "mel": 1, "nv": 2}
    counted = {kind: {label: n for label, n in counts.items() if n} for kind, counts in result.touched.items()}
    assert counted == {
        "patients": {"all": 1, "nv": 1},
        "lesions": {"all": 2, "mel": 1, "nv": 1},
        "identical_images": {"all": 1, "nv": 1},
        "near_duplicates": {},
        "chains": {},
        "any": {"all": 3, "mel": 1, "nv": 2},
    }
    assert result.share() == pytest.approx(0.75)
    assert result.share("any", "bkl") == 0
    assert result.rows["any"].tolist() == [True, True, True, False]


def test_several_images_of_a_lesion_are_one_lesion(make_table):
    table = make_table(LABELS, lesions=["A", "A", None, "A", "A", "A", None])
    result = found(table)
    assert result.touched["lesions"]["all"] == 3
    assert result.crossing["lesions"] == {"all": 1, "bkl": 0, "mel": 1, "nv": 1}


def test_ids_that_a_data_set_does_not_have_are_no_kind(make_table):
    assert list(found(make_table(LABELS)).touched) == ["identical_images", "near_duplicates", "chains", "any"]


def test_a_mirrored_copy_is_a_near_duplicate_in_either_order(make_picture, make_table_of_pictures):
    pictures = [make_picture(seed) for seed in range(7)]
    pictures[3] = pictures[1][:, ::-1]
    table = make_table_of_pictures(pictures)
    table = table.assign(group=assign_groups(table, DEFAULT_THRESHOLD))
    for order in (table, table[::-1]):
        result = overlap(order.assign(split=pd.Series(PARTS)), "test", "train", DEFAULT_THRESHOLD)
        assert result.touched["near_duplicates"]["all"] == result.crossing["near_duplicates"]["all"] == 1
        assert result.rows.index[result.rows["near_duplicates"]].tolist() == [3]


def test_a_chain_through_an_image_in_no_part_is_told_apart(make_table):
    """Image 3 has the lesion of an image that is in no part and has the patient of image 0."""
    table = make_table(["nv"] * 4, lesions=["L", None, "L", "K"], patients=["P", "P", None, None])
    table = table.drop(index=0).assign(split=["train", "test", "test"])
    result = overlap(table, "test", "train", DEFAULT_THRESHOLD)
    assert {kind: counts["all"] for kind, counts in result.touched.items() if counts["all"]} == {"chains": 1, "any": 1}


def test_ids_of_many_images_are_not_compared_one_by_one(monkeypatch):
    none = pd.DataFrame({"first": [], "second": [], "correlation": []}, dtype=int)
    monkeypatch.setattr(module, "known_pairs", lambda *_: none)
    count = 40_000
    ids = pd.Series([f"ISIC_{number:07d}" for number in range(count)], dtype=object)
    table = pd.DataFrame({"image_id": ids, "label": "nv", "sha256": ids, "group": ids})
    for column in ("patient_id", "lesion_id"):
        table[column] = None
    table["split"] = ["train", "train", "test", "val"] * (count // 4)
    begun = time.process_time()
    assert overlap(table, "test", "train", DEFAULT_THRESHOLD).images["all"] == count // 4
    assert time.process_time() - begun < 3  # 12 s where each id is compared with each other one
