"""The ranges of numbers of single options."""

import pytest
import yaml

from lesion_exp.config.shipped_conf import conf_dir
from lesion_exp.errors import ConfigError
from lesion_exp.value_range import RANGES, ValueRange, check_range


@pytest.mark.parametrize(
    ("known", "inside", "outside", "words"),
    [
        (ValueRange(0), (0, 1e9), (-1e-9, float("nan")), "at least 0"),
        (ValueRange(0, above=True), (1e-9,), (0, -1, float("nan")), "above 0"),
        (ValueRange(0, 1), (0, 0.5, 1), (-0.1, 1.1), "in [0, 1]"),
        (ValueRange(0, 1, below=True), (0, 0.999), (1, -0.1), "in [0, 1)"),
        (ValueRange(0, 1, above=True), (1e-9, 1), (0, 1.1), "in (0, 1]"),
    ],
)
def test_a_range_holds_what_its_words_say(known, inside, outside, words):
    assert all(map(known.holds, inside))
    assert not any(map(known.holds, outside))
    assert known.words == words


@pytest.mark.parametrize("key", RANGES)
def test_each_range_is_that_of_a_key_which_options_have_and_holds_their_defaults(key):
    group, _, name = key.partition(".")
    nodes = [yaml.safe_load(path.read_text("utf-8")) for path in (conf_dir() / group).glob("*.yaml")]
    defaults = [node[name] for node in nodes if name in node]
    assert defaults
    for value in defaults:
        if value is not None:
            check_range(key, float(value))


def test_the_message_names_the_key_the_range_and_a_usual_value():
    with pytest.raises(ConfigError, match=r"expected loss.gamma to be at least 0, got -1; 2 is a usual value"):
        check_range("loss.gamma", -1)
