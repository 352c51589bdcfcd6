from __future__ import annotations

import logging

import pandas as pd
import pytest

from lesion_exp.dataset.missing_values import known_ages, known_ids, known_sexes, placeholder_numbers
from lesion_exp.dataset.table import standardize


def _ids(*counted: tuple[str, int]) -> pd.Series:
    return pd.Series([text for text, count in counted for _ in range(count)], dtype=object)


@pytest.mark.parametrize(
    "word",
    ["", " ", "NaN", "None", "null", "NA", "n/a", "N.A.", "unknown", "(Unknown)", "not_available", "-", "?", "<NA>"],
)
def test_words_for_nothing_are_missing(word: str) -> None:
    assert known_ids(pd.Series([word, "P1", word]), "x").tolist() == [None, "P1", None]


NAMED = [(f"IP_{number}", 3) for number in range(20)]
NUMBERED = [(str(number), 3) for number in range(1, 40)]


@pytest.mark.parametrize(
    ("others", "text", "count", "placeholder"),
    [
        (NAMED, "-1", 40, True),
        (NAMED, "-1", 2, True),
        (NAMED, "0", 2, True),
        (NAMED, "000", 40, True),
        (NAMED, "999", 3, True),
        (NUMBERED, "-1", 40, True),
        (NUMBERED, "-1", 1, True),
        (NUMBERED, "-9.0", 2, True),
        (NUMBERED, "0", 3, False),  # patients numbered from 0
        (NUMBERED, "0", 6, False),
        (NUMBERED, "0", 40, True),
        (NUMBERED, "00", 40, True),
        (NUMBERED, "999", 3, False),
        (NUMBERED, "999", 90, True),
        (NUMBERED, "17", 90, False),  # a patient with many images is a matter of the audit
        ([*NUMBERED, ("41", 60)], "0", 50, False),  # another patient has as many
        ([("1", 50)], "0", 50, False),
        ([("-5", 3), ("-7", 3), *NUMBERED], "-1", 3, False),  # ids below 0
        ([], "0", 50, True),
        ([], "-1", 50, True),
        ([], "P1", 50, False),
    ],
)
def test_a_number_for_nothing_is_told_from_an_id(
    others: list[tuple[str, int]], text: str, count: int, placeholder: bool
) -> None:
    kept = [(name, number) for name, number in others if name != text]
    assert set(placeholder_numbers(_ids(*kept, (text, count)))) == ({text} if placeholder else set())


def test_several_numbers_for_nothing_do_not_hide_each_other() -> None:
    assert set(placeholder_numbers(_ids(*NUMBERED, ("0", 50), ("999", 60)))) == {"0", "999"}
    assert set(placeholder_numbers(_ids(*NUMBERED, ("-1", 50), ("0", 49)))) == {"-1", "0"}


def test_what_was_decided_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        ids = known_ids(_ids(*NUMBERED, ("-1", 50), ("0", 3), ("N/A", 2)), "patient_id of mine")
    assert ids.isna().sum() == 52
    assert (
        "patient_id of mine: these numbers count as missing, not as one id: '-1' of 50 rows (no other id is below 0)"
        in caplog.text
    )
    frequent = "these numbers count as ids, since they are about as frequent as the others"
    assert f"{frequent}: '9' (3 rows), '0' (3 rows)" in caplog.text
    assert "these words count as missing: 'N/A' (2 rows)" in caplog.text


def test_whole_numbers_with_decimals_are_the_same_ids() -> None:
    assert known_ids(pd.Series(["7.0", "7", None, "12.00"]), "x").tolist() == ["7", "7", None, "12"]
    assert known_ids(pd.Series(["7.0", "7a"]), "x").tolist() == ["7.0", "7a"]


def test_ages_of_nobody_are_missing_and_said(caplog: pytest.LogCaptureFixture) -> None:
    texts = pd.Series(["-1", "999", "0", "120", "121", "45,5", "inf", "45-50", "unknown", None])
    ages = known_ages(texts, "age of mine")
    assert ages.fillna(-9).tolist() == [-9, -9, 0, 120, -9, 45.5, -9, -9, -9, -9]
    assert "age of mine: 1 are not numbers and count as missing: '45-50' (1 rows)" in caplog.text
    assert (
        "age of mine: 4 are outside 0 to 120 years and count as missing: '-1' (1 rows), '999' (1 rows)" in caplog.text
    )


@pytest.mark.parametrize("text", ["45 years", "45y", "45 Jahre", "45,0", "45.0 yrs.", "45 years old"])
def test_ages_with_their_unit_are_understood(text: str) -> None:
    assert known_ages(pd.Series([text]), "age of mine").tolist() == [45.0]


def test_sexes_have_one_spelling(caplog: pytest.LogCaptureFixture) -> None:
    texts = pd.Series(["m", "Male", "F", "female", "w", "n/a", None, "other", "1", "weiblich", "F.", "x."])
    expected = [
        "male",
        "male",
        "female",
        "female",
        "female",
        "unknown",
        "unknown",
        "other",
        "1",
        "female",
        "female",
        "x.",
    ]
    assert known_sexes(texts, "sex of mine", "unknown").tolist() == expected
    assert "values of unknown meaning are kept as they are: '1' (1 rows), 'x.' (1 rows)" in caplog.text


def test_every_table_goes_through_these_rules() -> None:
    frame = pd.DataFrame({"image_id": list("abcd"), "label": "nv", "patient_id": ["-1", "-1", "IP_1", "IP_1"]})
    table = standardize(frame.assign(sex=["m", "male", "F", "-"], age=["-1", "999", "30", "x"]), "mine")
    assert table["patient_id"].tolist() == [None, None, "IP_1", "IP_1"]
    assert table["sex"].tolist() == ["male", "male", "female", "unknown"]
    assert table["age"].fillna(-1).tolist() == [-1, -1, 30, -1]
