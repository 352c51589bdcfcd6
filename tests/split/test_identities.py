import numpy as np
import pytest

from lesion_exp.split.audit import audit
from lesion_exp.split.grouped import Grouped
from lesion_exp.split.identities import identity_warnings

RATIOS = {"train": 0.7, "val": 0.15, "test": 0.15}


def test_a_sound_table_has_no_contradictions(make_table, lesions_table):
    assert identity_warnings(lesions_table) == []
    assert identity_warnings(make_table(["nv", "mel"] * 30)) == []


def test_a_lesion_with_several_diagnoses(make_table):
    (warning,) = identity_warnings(make_table(["nv", "mel", "bcc", "nv"], ["A", "A", "A", "B"]))
    assert warning.startswith("1 lesion has images of several classes")
    assert warning.endswith("For example A (bcc, mel, nv)")


def test_diagnoses_count_where_the_task_is_malignancy(make_table):
    table = make_table(["malignant", "malignant"], ["A", "A"]).assign(diagnosis=["mel", "bcc"])
    assert "A (bcc, mel)" in identity_warnings(table)[0]


def test_identical_pictures_with_several_labels(make_table):
    table = make_table(["nv", "mel", "nv", "nv"], contents=[0, 0, 1, 1])
    (warning,) = identity_warnings(table)
    assert warning.startswith("1 image occurs several times, byte by byte, with different labels")
    assert warning.endswith("For example img0000 (nv) = img0001 (mel)")


def test_lesions_that_are_numbered_within_patients(make_table):
    lesions = ["1", "2"] * 4
    warnings = identity_warnings(make_table(["nv"] * 8, lesions, [f"P{row // 2}" for row in range(8)]))
    assert len(warnings) == 1
    assert warnings[0].startswith("2 lesions belong to several patients")
    assert "For example 1 (P0, P1, P2, P3); 2 (P0, P1, P2, P3)" in warnings[0]


@pytest.mark.parametrize(("largest", "expected"), [(60, 1), (9, 0), (15, 0)])
def test_an_id_with_an_implausible_share(make_table, largest, expected):
    sizes = [largest, *([2] * 40)] if largest != 15 else [15] * 4
    patients = [f"P{number}" for number, size in enumerate(sizes) for _ in range(size)]
    warnings = identity_warnings(make_table(["nv"] * len(patients), patients=patients))
    assert len(warnings) == expected
    if expected:
        assert (
            "60 of the 140 images of made (43%) have the patient_id 'P0', the other ids 2 each (median)" in warnings[0]
        )


def test_several_implausible_ids_do_not_hide_each_other(make_table):
    patients = ["X"] * 40 + ["Y"] * 50 + [f"P{number}" for number in range(30)]
    assert len(identity_warnings(make_table(["nv"] * len(patients), patients=patients))) == 2


def test_the_audit_says_what_contradicts_itself_and_what_was_noticed_before(make_table):
    rng = np.random.default_rng(0)
    labels = [str(label) for label in rng.choice(["mel", "nv"], 60)]
    split = Grouped(0, RATIOS).split(make_table(labels, [f"L{row // 3}" for row in range(60)]))
    result = audit(split, 0.985, noticed=["the sky is green"])
    assert result.passed
    assert result.warnings[0] == "the sky is green"
    assert "images of several classes" in result.summary()
    assert max(map(len, result.summary().splitlines())) <= 80
