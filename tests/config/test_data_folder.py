import logging

import pytest

from lesion_exp.config import data_folder
from lesion_exp.config.compose import compose
from lesion_exp.errors import ConfigError


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Two folders of data sets, none of which is named yet, and a place for the user's file."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.delenv("LESION_EXP_DATA", raising=False)
    for name in ("first/ham10000", "first/folder", "second/ham10000", "second/ph2", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "settings" / "lesion_exp").mkdir(parents=True)
    data_folder._say.cache_clear()
    return tmp_path


def root_of(machine, *overrides):
    return compose(overrides, root=machine).config["dataset"]["root"]


def write(machine, text):
    (machine / "settings" / "lesion_exp" / "config.yaml").write_text(text)


def test_the_variable_names_a_folder_of_data_sets_and_the_log_says_so_once(machine, monkeypatch, caplog):
    monkeypatch.setenv("LESION_EXP_DATA", str(machine / "first"))
    with caplog.at_level(logging.INFO):
        assert root_of(machine, "dataset=ham10000") == str(machine / "first" / "ham10000")
        assert root_of(machine, "dataset=ham10000", "seed=1") == str(machine / "first" / "ham10000")
    said = [record.getMessage() for record in caplog.records if "ham10000" in record.getMessage()]
    assert said == [f"the data of ham10000 are read from {machine}/first/ham10000 (LESION_EXP_DATA={machine}/first)"]


def test_what_the_command_says_comes_first_then_the_variable_then_the_file(machine, monkeypatch):
    write(machine, f"data: {machine}/second\ndatasets: {{derm7pt: {machine}/elsewhere}}\n")
    assert root_of(machine, "dataset=ham10000") == str(machine / "second" / "ham10000")
    assert root_of(machine, "dataset=derm7pt") == str(machine / "elsewhere")
    monkeypatch.setenv("LESION_EXP_DATA", str(machine / "first"))
    assert root_of(machine, "dataset=ham10000") == str(machine / "first" / "ham10000")
    assert root_of(machine, "dataset=ph2") == str(machine / "second" / "ph2"), "the variable's folder lacks it"
    given = f"dataset.root={machine}/elsewhere"
    assert root_of(machine, "dataset=ham10000", given) == str(machine / "elsewhere")


def test_a_folder_does_not_change_the_hash_of_a_job_but_stands_in_it(machine, monkeypatch):
    from lesion_exp.config.freeze import freeze

    monkeypatch.setenv("LESION_EXP_DATA", str(machine / "first"))
    found = freeze(compose(["dataset=ham10000"], root=machine))
    given = freeze(compose(["dataset=ham10000", f"dataset.root={machine}/first/ham10000"], root=machine))
    assert (found.config, found.job_hash) == (given.config, given.job_hash)


def test_options_for_any_data_are_not_looked_up(machine, monkeypatch):
    monkeypatch.setenv("LESION_EXP_DATA", str(machine / "first"))  # it has a folder "folder"
    with pytest.raises(ConfigError, match=r"expected a value for dataset\.root, got none; add dataset\.root=DIR"):
        root_of(machine, "dataset=folder")


def test_where_nothing_is_found_the_message_says_where_it_looked(machine, monkeypatch):
    with pytest.raises(ConfigError, match="or set LESION_EXP_DATA to the folder that contains the folder isic2019"):
        root_of(machine, "dataset=isic2019")
    monkeypatch.setenv("LESION_EXP_DATA", str(machine / "first"))
    with pytest.raises(ConfigError, match=r"first has no folder isic2019$"):
        root_of(machine, "dataset=isic2019")
    write(machine, f"data: {machine}/second\n")
    both = r"first has no folder isic2019; .*config\.yaml leads to no folder isic2019$"
    with pytest.raises(ConfigError, match=both):
        root_of(machine, "dataset=isic2019")
    monkeypatch.delenv("LESION_EXP_DATA")
    with pytest.raises(ConfigError, match=r"config\.yaml leads to no folder isic2019; or set LESION_EXP_DATA to"):
        root_of(machine, "dataset=isic2019")
    monkeypatch.setenv("LESION_EXP_DATA", str(machine / "third"))
    with pytest.raises(ConfigError, match="environment variable LESION_EXP_DATA, but none is at"):
        root_of(machine, "dataset=ham10000")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: [", "expected YAML in"),
        ("just words", "expected keys in"),
        ("dataset: {ph2: /x}", "did you mean 'datasets'"),
        ("datasets: /x", "folders by name"),
        ("datasets: {ph2: /nowhere}", "folder of ph2 at /nowhere"),
        ("data: /nowhere", "folder of the data sets at /nowhere"),
        ("data: second", r"expected an absolute path, .* in data of .*; for example data: /data/second"),
        ("datasets: {ph2: second/ph2}", r"expected an absolute path, .* in datasets\.ph2 of"),
    ],
)
def test_a_file_that_cannot_be_followed_is_refused_and_not_passed_over(machine, monkeypatch, text, said):
    monkeypatch.chdir(machine)  # which has the folder "second"
    write(machine, text)
    with pytest.raises(ConfigError, match=said):
        root_of(machine, "dataset=ph2")
