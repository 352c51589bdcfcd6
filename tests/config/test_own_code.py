import sys
from types import SimpleNamespace

import pytest

from lesion_exp.config.own_code import code_digests, code_tags, joined_states, states_so_far, warn_of_other_code
from lesion_exp.config.registered import TRUST_VARIABLE

CONFIG = {"loss": {"_target_": "clinic_losses.margins.Margin", "gap": 1.0}, "backbone": {"_target_": "lesion_exp.x"}}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder of a package of two modules, which is trusted."""
    folder = tmp_path / "clinic_losses"
    (folder / "deep").mkdir(parents=True)
    for name in ("__init__.py", "margins.py", "deep/helpers.py", "notes.txt"):
        (folder / name).write_text(f"# {name}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(TRUST_VARIABLE, "clinic_losses,unused_package")
    yield folder
    sys.modules.pop("clinic_losses", None)


def test_every_python_file_of_the_packages_that_a_config_uses_is_named(package):
    assert set(code_digests(CONFIG)) == {
        "clinic_losses/__init__.py", "clinic_losses/margins.py", "clinic_losses/deep/helpers.py",
    }  # fmt: skip


def test_an_edit_anywhere_in_the_package_changes_the_digest_of_that_file_alone(package):
    before = code_digests(CONFIG)
    (package / "deep" / "helpers.py").write_text("# edited\n")
    (package / "notes.txt").write_text("edited\n")
    after = code_digests(CONFIG)
    assert {name for name in before if before[name] != after[name]} == {"clinic_losses/deep/helpers.py"}


def test_a_tag_of_each_package_that_is_used_changes_with_its_code(package):
    before = code_tags(CONFIG)
    assert set(before) == {"own_code.clinic_losses"}
    (package / "notes.txt").write_text("edited\n")
    assert code_tags(CONFIG) == before
    (package / "deep" / "helpers.py").write_text("# edited\n")
    assert code_tags(CONFIG) != before


def test_a_config_of_shipped_options_has_no_code_of_its_own(package):
    assert code_digests({"loss": {"_target_": "lesion_exp.loss.focal.Focal"}}) == {}


def test_a_package_that_is_not_there_has_no_files(monkeypatch):
    monkeypatch.setenv(TRUST_VARIABLE, "absent_package.inner")
    assert code_digests({"loss": {"_target_": "absent_package.inner.loss"}}) == {}


def test_a_single_module_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "one_loss.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(TRUST_VARIABLE, "one_loss")
    assert set(code_digests({"loss": {"_target_": "one_loss.loss"}})) == {"one_loss.py"}


def test_a_training_that_goes_on_with_other_code_has_both_states():
    then = {"own_code.a": "1", "own_code.b": "2", "torch": "x"}
    first = joined_states(then, {"own_code.a": "1", "own_code.b": "3", "own_code.new": "4"})
    assert first == {"own_code.b": "2 and 3"}
    assert joined_states({**then, **first}, {"own_code.b": "3"}) == {}, "it went on with that code before"
    assert joined_states({**then, **first}, {"own_code.b": "2"}) == {"own_code.b": "2 and 3 and 2"}


def test_an_extension_has_every_state_of_the_training_before_it():
    then = {"own_code.a": "1 and 2", "own_code.b": "3", "own_code.gone": "4", "torch": "x"}
    now = {"own_code.a": "2", "own_code.b": "3", "own_code.new": "5"}
    assert states_so_far(then, now) == {"own_code.a": "1 and 2", "own_code.b": "3"}
    assert states_so_far(then, {**now, "own_code.b": "6"})["own_code.b"] == "3 and 6"


def test_other_code_than_that_of_a_run_is_told_once_in_one_line(package, caplog):
    run = SimpleNamespace(run_id="a" * 32, tags={**code_tags(CONFIG), "version.torch": "0.0.1"})
    warn_of_other_code(run, CONFIG)
    assert caplog.messages == [], "versions are told elsewhere"
    (package / "margins.py").write_text("# edited\n")
    for _ in range(2):
        warn_of_other_code(run, CONFIG)
    now = code_tags(CONFIG)["own_code.clinic_losses"]
    then = run.tags["own_code.clinic_losses"]
    assert caplog.messages == [
        f"warning: run {run.run_id} was trained with another state of your code clinic_losses: {then} then, {now} now; "
        f"restore that code, or train again, if the two give different results"
    ]
    older = SimpleNamespace(run_id="b" * 32, tags={})
    warn_of_other_code(older, CONFIG)
    assert len(caplog.messages) == 1, "an earlier version recorded no digests"
