import logging
import warnings
from types import SimpleNamespace

import pytest

from lesion_exp.process.messages import show_messages
from lesion_exp.training.tracked import log_hint, own_tags
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


def test_the_note_on_a_run_that_stopped_names_the_folders_that_were_typed(tmp_path):
    run = SimpleNamespace(run_id="0123", live_dir=tmp_path)
    config = {"tracking": {"uri": None}, "paths": {"root": "/data/my study", "live": "/data/live"}}
    job = SimpleNamespace(overrides=("seed=3", "paths.root=my study"), config=config)
    with pytest.raises(KeyboardInterrupt) as caught, log_hint(run, job):
        raise KeyboardInterrupt
    command = "lesion-exp resume run=0123 'paths.root=/data/my study'"
    assert caught.value.__notes__[-1] == f"the run is marked KILLED; {command} continues from its last checkpoint"
