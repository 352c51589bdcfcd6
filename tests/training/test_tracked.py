import logging
import warnings

from lesion_exp.process.messages import show_messages
from lesion_exp.training.tracked import own_tags
from tests.own_process import restored


def test_a_tag_below_a_tag_has_both_names():
    assert own_tags({"cohort": "pilot", "study": {"arm": "1.10", "site": {"x": "a"}}}) == {
        "cohort": "pilot",
        "study.arm": "1.10",
        "study.site.x": "a",
    }


def test_a_warning_of_a_library_is_said_once_in_a_command(capsys):
    for _ in range(2):
        with restored():
            show_messages()
            for number in (1, 2, 1, 1, 2):
                warnings.simplefilter("always")
                warnings.warn(f"Glyph {number} is missing", stacklevel=1)
            logging.getLogger("lesion_exp").warning("ours")
            logging.getLogger("lesion_exp").warning("ours")
        said = capsys.readouterr().err.splitlines()
        assert sorted(said) == ["ours", "ours", "warning: Glyph 1 is missing", "warning: Glyph 2 is missing"]
