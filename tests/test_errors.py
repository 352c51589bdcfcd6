import pytest

from lesion_exp.errors import LONGEST_CASE, ConfigError, check_choice, first_cases


def test_a_case_of_a_million_characters_is_cut():
    shown = first_cases(["x" * 10**6, "short"])
    assert len(shown) < 2 * LONGEST_CASE
    assert "(1,000,000 characters)" in shown
    assert shown.endswith("  - short")


def test_a_terminal_obeys_no_case():
    assert first_cases(["a\x1b[2J\x00\x9b"]) == "  - a\\x1b[2J\\x00\\x9b"


def test_more_cases_are_counted():
    assert first_cases(range(7), 2) == "  - 0\n  - 1\n  ... and 5 more"


@pytest.mark.parametrize(("value", "end"), [("tempreature", "'tempreature'; did you mean 'temperature'?"), (3, "3")])
def test_a_value_that_is_no_choice_is_answered_with_all_of_them_and_the_nearest(value, end):
    check_choice("calibration", "none", ["none", "temperature"])
    with pytest.raises(ConfigError) as refused:
        check_choice("calibration", value, (name for name in ("none", "temperature")))
    assert str(refused.value) == f"expected calibration to be one of none, temperature, got {end}"
