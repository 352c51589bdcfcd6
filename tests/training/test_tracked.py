import json
import logging
import warnings
from types import SimpleNamespace

import pytest

from lesion_exp.config.own_code import code_digests, code_tags
from lesion_exp.config.registered import TRUST_VARIABLE
from lesion_exp.process.messages import show_messages
from lesion_exp.training.tracked import _compare_code, log_hint, own_tags
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


class Continued:
    """A run that goes on: what it is told."""

    def __init__(self, tags):
        self.tags_at_start, self.tags, self.files = tags, {}, {}

    def set_tags(self, tags):
        self.tags |= tags

    def log_json(self, content, path):
        self.files[path] = content


@pytest.mark.parametrize(("edited", "is_begun"), [(False, True), (True, True), (True, False)])
def test_a_run_that_goes_on_with_other_code_of_the_user_says_and_keeps_both(
    tmp_path, monkeypatch, caplog, edited, is_begun
):
    module = tmp_path / "losses_of_the_test.py"
    module.write_text("one = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(TRUST_VARIABLE, "losses_of_the_test")
    config = {"loss": {"_target_": "losses_of_the_test.loss"}}
    tags, digests = code_tags(config), {**code_digests(config), "another.py": "0" * 16}
    (tmp_path / "own_code.json").write_text(json.dumps(digests))
    first = SimpleNamespace(run_id=f"{edited}{is_begun}", tags=tags, fetch=lambda _: tmp_path / "own_code.json")
    if edited:
        module.write_text("one = 2\n")
    run = Continued(tags)
    _compare_code(run, first, config, is_begun=is_begun)
    now, name = code_tags(config), "losses_of_the_test.py"
    assert ("another state of your code losses_of_the_test" in caplog.text) == (edited and is_begun)
    if not edited:
        assert run.tags == run.files == {}
    elif is_begun:
        assert run.tags == {key: f"{tags[key]} and {now[key]}" for key in tags}
        both = f"{digests[name]} and {code_digests(config)[name]}"
        assert run.files == {"environment/own_code.json": {**digests, name: both}}
    else:
        assert run.tags == now != tags, "nothing was trained with the first state"
        assert run.files == {"environment/own_code.json": code_digests(config)}
