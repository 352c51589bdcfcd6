"""What `scripts/benchmark_verbs.py` measures of a verb is its result, and not the message of a refusal."""

import importlib
from pathlib import Path

import pytest


@pytest.fixture
def verbs(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    return importlib.import_module("benchmark_verbs")


@pytest.mark.parametrize("words", ["resume", "table rows=seed", "ui port=0"])
def test_a_refusal_is_not_measured(verbs, tmp_path, words):
    with pytest.raises(RuntimeError, match=f"expected a useful line of {words}"):
        verbs.first_line(tmp_path, words.partition(" ")[0], tuple(words.split()), {}, [])


def test_a_result_is_measured(verbs, tmp_path):
    note = {}
    assert verbs.first_line(tmp_path, "completion", ("completion", "bash"), note, []) > 0
    assert note["loaded"] == []
