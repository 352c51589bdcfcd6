from lesion_exp.errors import LONGEST_CASE, first_cases


def test_a_case_of_a_million_characters_is_cut():
    shown = first_cases(["x" * 10**6, "short"])
    assert len(shown) < 2 * LONGEST_CASE
    assert "(1,000,000 characters)" in shown
    assert shown.endswith("  - short")


def test_a_terminal_obeys_no_case():
    assert first_cases(["a\x1b[2J\x00\x9b"]) == "  - a\\x1b[2J\\x00\\x9b"


def test_more_cases_are_counted():
    assert first_cases(range(7), 2) == "  - 0\n  - 1\n  ... and 5 more"
