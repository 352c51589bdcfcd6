from __future__ import annotations

import re

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


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("actinic keratosis", "ak"),
        ("Actinic Keratoses", "ak"),
        ("actinic_keratosis", "ak"),
        ("Melanoma", "mel"),
        ("melanomas", "mel"),
        ("naevus", "nv"),
        ("nevi", "nv"),
        ("Melanocytic Naevi", "nv"),
        ("Seborrhoeic keratosis", "sk"),
        ("carcinoma, basal cell", "bcc"),
        ("Bowen’s disease", "akiec"),
        ("pigmented benign keratosis", "bkl"),
        ("Café-au-lait macule", "cafe_au_lait"),
        ("Cafe\u0301-au-lait macule", "cafe_au_lait"),
        ("MEL", "mel"),
        ("mole", None),
        ("malignant mole", None),
        ("", None),
    ],
)
def test_full_names_are_understood_in_every_spelling(name: str, code: str | None) -> None:
    assert taxonomy.code_of(name) == code


def test_every_name_belongs_to_one_code_and_is_understood() -> None:
    names: dict[str, set[str]] = {}
    for name, code in taxonomy._names():
        names.setdefault(taxonomy._sorted_words(name), set()).add(code)
    assert {name: codes for name, codes in names.items() if len(codes) > 1} == {}
    assert all(taxonomy.code_of(diagnosis.name) == code for code, diagnosis in taxonomy.DIAGNOSES.items())


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("actinic keratosi", "; did you mean 'ak' (actinic keratosis, malignant)?"),
        ("Melanom", "; did you mean 'mel' (melanoma, malignant)?"),
        ("vascu", "; did you mean 'vasc' (vascular lesion, benign)?"),
        ("ringworm", ""),
    ],
)
def test_hints_compare_names_and_tell_the_malignancy(label: str, expected: str) -> None:
    assert taxonomy.hint(label) == expected


def test_every_hint_tells_its_malignancy() -> None:
    hinted = 0
    for name, _ in taxonomy._names():
        for wrong in (name[1:], name[:-1], name + "x", name.replace("a", "e", 1)):
            near = taxonomy.hint(wrong)
            codes = re.findall(r"'(\w+)'(?: \(|\?| or)", near)
            hinted += bool(codes)
            for code in codes:
                malignant = taxonomy.DIAGNOSES[code].malignant
                kind = {True: "malignant", False: "benign", None: "malignant or benign"}[malignant]
                assert code == kind or taxonomy.in_words(code).endswith(f", {kind})")
                assert taxonomy.in_words(code) in near
    assert hinted > 200


def test_the_name_of_a_class_is_as_malignant_as_its_code() -> None:
    assert taxonomy.is_malignant("actinic keratosis")
    assert not taxonomy.is_malignant("Naevus")
    assert taxonomy.map_label("melanoma", HAM10000) == "mel"
    assert taxonomy.map_label("mel", ("melanoma", "nevus")) == "melanoma"


@pytest.mark.parametrize(
    ("label", "classes", "expected"),
    [
        ("sccka", ("akiec", "bcc", "nv"), None),  # MILK10k has both
        ("sccka", ("benign", "malignant"), "malignant"),
        ("inf", ("benign", "malignant"), "benign"),
        ("sccka", ("scc", "nv"), "scc"),  # which the set does not have
        ("akiec", ("akiec", "sccka"), "akiec"),
    ],
)
def test_classes_that_a_set_tells_apart_are_not_merged(
    label: str, classes: tuple[str, ...], expected: str | None
) -> None:
    assert taxonomy.map_label(label, classes, MILK10K) == expected


def test_a_true_part_goes_to_the_whole_even_where_the_set_has_both() -> None:
    assert taxonomy.map_label("mel_in_situ", ("mel", "nv"), ("mel", "mel_in_situ", "nv")) == "mel"
    assert taxonomy.is_wholly("mel_in_situ", "mel")
    assert not taxonomy.is_wholly("scc", "akiec")
    assert taxonomy.is_wholly("ak", "akiec")
