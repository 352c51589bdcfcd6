import itertools

import pytest

from lesion_exp.evaluation.figures.style import labels, shortened

KINDS = [
    "pigmented benign keratosis",
    "Squamous cell carcinoma in situ",
    "basal cell carcinoma, nodular type",
    "NAEVUS",
]
PLACES = ["of the face", "of the trunk", "of the upper extremity", "of the lower extremity", "of the back"]
GRADES = ["", " (mild)", " (severe)"]
LONG = [f"{kind} {place}{grade}" for kind, place, grade in itertools.product(KINDS, PLACES, GRADES)]
IN_THE_MIDDLE = [f"{'x' * 40}{number}{'y' * 40}" for number in range(60)]
WITHOUT_SPACES = [f"a_very_long_name_of_a_class_{number}" for number in range(25)]


@pytest.mark.parametrize("names", [LONG, IN_THE_MIDDLE, WITHOUT_SPACES, ["a", "b"]], ids=["long", "x1y", "_", "short"])
@pytest.mark.parametrize(("width", "lines"), [(12, 1), (16, 2), (19, 2), (26, 2), (36, 1)])
def test_labels_fit_and_different_names_stay_different(names: list[str], width: int, lines: int) -> None:
    found = labels(names, width, lines)
    assert len(set(found)) == len(set(names))
    for text in found:
        assert len(text.split("\n")) <= lines
        assert max(map(len, text.split("\n"))) <= width


def test_a_label_keeps_the_word_that_tells_it_apart() -> None:
    found = labels([f"pigmented benign keratosis {place}" for place in PLACES], 20)
    for text, word in zip(found, ("face", "trunk", "upper", "lower", "back"), strict=True):
        assert word in text


def test_what_fits_stays_as_it_is_with_its_capitals() -> None:
    assert labels(["Melanoma", "NV", "nv", "Melanoma"], 8) == ["Melanoma", "NV", "nv", "Melanoma"]
    assert labels(["Basal cell Carcinoma"], 10, 2) == ["Basal cell\nCarcinoma"]


def test_a_name_alone_loses_its_middle() -> None:
    assert shortened("pigmented benign keratosis", 12) == "pigment…osis"
    assert labels(["pigmented benign keratosis"], 12) == ["pigment…osis"]


SENTENCES = [
    "Benign melanocytic lesion without atypia",
    "Malignant or possibly malignant melanocytic lesion",
    *(f"{kind} {place}" for kind, place in itertools.product(KINDS, ("of the face", "of the back", "of the trunk"))),
]


@pytest.mark.parametrize(("width", "lines"), [(24, 1), (17, 2), (16, 3), (18, 4)])
def test_no_line_of_a_label_begins_within_a_word(width: int, lines: int) -> None:
    """ "thout atypia" and "f the face" are no words."""
    for name, text in zip(SENTENCES, labels(SENTENCES, width, lines), strict=True):
        for part in text.replace("…", "\n").split("\n"):
            assert part == "" or f" {part}" in f" {name}", text


def test_words_are_not_broken_at_the_end_of_a_line() -> None:
    assert labels(["Dermatofibroma"], 12, 2) == ["Dermato…\nbroma"]
    assert labels(["squamous_cell_carcinoma"], 14, 2) == ["squamous_cell_\ncarcinoma"]


def test_each_name_has_all_the_place_that_it_can_use() -> None:
    """One name that fits in no way takes nothing from the others."""
    assert labels(["Melanocytic naevus of the trunk", "x" * 90], 16, 2)[0] == "Melanocytic\nnaevus…the trunk"
    assert labels(["Dermatofibroma of the face", "x" * 90], 16, 2)[0] == "Dermatofibroma\nof the face"
