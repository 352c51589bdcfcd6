from __future__ import annotations

import pytest

from lesion_exp import taxonomy
from lesion_exp.errors import DataError, UserError

HAM10000 = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
ISIC2019 = ("ak", "bcc", "bkl", "df", "mel", "nv", "scc", "vasc")
MILK10K = ("akiec", "bcc", "ben_oth", "bkl", "df", "inf", "mal_oth", "mel", "nv", "sccka", "vasc")


def test_codes_are_sorted_and_lower_case() -> None:
    assert list(taxonomy.codes()) == sorted(taxonomy.DIAGNOSES)
    assert all(code == code.lower() and code == diagnosis.code for code, diagnosis in taxonomy.DIAGNOSES.items())


@pytest.mark.parametrize("classes", [HAM10000, ISIC2019, MILK10K])
def test_every_class_of_the_public_sets_is_known_and_maps_to_itself(classes: tuple[str, ...]) -> None:
    assert set(classes) <= set(taxonomy.codes())
    assert [taxonomy.map_label(code, classes) for code in classes] == list(classes)


def test_malignant_are_exactly_the_four_and_what_consists_of_them() -> None:
    known = [*HAM10000, *ISIC2019, "common_nevus", "atypical_nevus", "sk"]
    assert {code for code in known if taxonomy.is_malignant(code)} == {"mel", "bcc", "akiec", "ak", "scc"}
    assert taxonomy.is_malignant("malignant")
    assert not taxonomy.is_malignant("benign")


@pytest.mark.parametrize(("code", "part"), [("unk", "may be either"), ("ml", "'mel'"), ("ringworm", "is not a code")])
def test_undetermined_malignancy_is_an_error_that_says_what_to_do(code: str, part: str) -> None:
    with pytest.raises(DataError, match=part) as caught:
        taxonomy.is_malignant(code)
    assert isinstance(caught.value, UserError)
    assert "task.target=diagnosis" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "classes", "expected"),
    [
        ("ak", HAM10000, "akiec"),
        ("scc", HAM10000, "akiec"),
        ("akiec", ISIC2019, None),  # either ak or scc
        ("unk", HAM10000, None),
        ("common_nevus", HAM10000, "nv"),
        ("clark_nevus", HAM10000, "nv"),
        ("clark_nevus", ("atypical_nevus", "common_nevus", "mel"), "atypical_nevus"),
        ("sk", HAM10000, "bkl"),
        ("solar_lentigo", HAM10000, "bkl"),
        ("scc", MILK10K, "sccka"),
        ("ak", MILK10K, "akiec"),
        ("sccka", ISIC2019, "scc"),
        ("nv", ("common_nevus", "mel"), None),  # which nevus?
        ("nv", ("benign", "malignant"), "benign"),
        ("ak", ("benign", "malignant"), "malignant"),
        ("genodermatoses", ("benign", "malignant", "non_neoplastic"), "non_neoplastic"),
        ("benign", HAM10000, None),
        ("wart", ("wart", "mel"), "wart"),
        ("wart", HAM10000, None),
    ],
)
def test_map_label(code: str, classes: tuple[str, ...], expected: str | None) -> None:
    assert taxonomy.map_label(code, classes) == expected


def test_a_class_is_as_malignant_as_the_classes_that_contain_it() -> None:
    for code, diagnosis in taxonomy.DIAGNOSES.items():
        if diagnosis.malignant is not None:
            expected = "malignant" if diagnosis.malignant else "benign"
            assert taxonomy.map_label(code, ("benign", "malignant")) == expected, code
        else:
            assert taxonomy.map_label(code, ("benign", "malignant")) is None, code


def test_full_name_falls_back_to_the_code() -> None:
    assert taxonomy.full_name("nv") == "melanocytic nevus"
    assert taxonomy.full_name("my_class") == "my_class"


def test_classes_are_alphabetical() -> None:
    assert taxonomy.classes_of(["nv", "mel", "nv", "akiec"]) == ("akiec", "mel", "nv")
