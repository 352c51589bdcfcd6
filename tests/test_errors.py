import shlex

import pytest

from lesion_exp import errors
from lesion_exp.cli import MISTAKE, main
from lesion_exp.errors import LONGEST_CASE, ConfigError, check_choice, check_output, first_cases


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


def test_an_output_that_cannot_be_written_is_told_before_the_work(tmp_path, monkeypatch):
    check_output(tmp_path / "page.html")
    check_output(tmp_path / "new" / "folder", is_folder=True)
    with pytest.raises(ConfigError, match="make the folder first"):
        check_output(tmp_path / "new" / "page.html")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match="file is a file; set another output="):
        check_output(file / "folder", is_folder=True)
    monkeypatch.setattr(errors.os, "access", lambda path, mode: path != file)
    check_output(tmp_path / "page.html")
    with pytest.raises(ConfigError, match="file is read-only"):
        check_output(file)
    monkeypatch.setattr(errors.os, "access", lambda path, mode: path == file)
    check_output(file)
    monkeypatch.setattr(errors.os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError, match=f"{tmp_path} is read-only"):
        check_output(tmp_path / "new" / "folder", is_folder=True)


@pytest.mark.parametrize(
    "words",
    [
        ["table", "sweep=latest", "rows=loss"], ["audit", "dataset=synthetic"], ["report", "run=latest"],
    ],
)  # fmt: skip
def test_verbs_tell_it_before_they_read_a_store_or_data(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    suffix = "tex" if words[0] == "table" else "html"
    assert main([*words, f"output=none/result.{suffix}"]) == MISTAKE
    assert "make the folder first" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("has_pip", [True, False])
def test_the_command_that_installs_works_with_and_without_pip(monkeypatch, has_pip):
    monkeypatch.setattr(errors.PathFinder, "find_spec", lambda name: object() if has_pip and name == "pip" else None)
    monkeypatch.setattr(errors.sys, "executable", "/my env/bin/python")
    command = shlex.split(errors.install_command("--no-deps", "lesion-exp[lora]"))
    if has_pip:
        assert command == ["/my env/bin/python", "-m", "pip", "install", "--no-deps", "lesion-exp[lora]"]
    else:
        assert command == ["uv", "pip", "install", "--no-deps", "lesion-exp[lora]", "--python", "/my env/bin/python"]
    assert str(errors.not_installed("peft", "backbone.tune=lora")).endswith(errors.install_command("peft"))
