"""The table of rooms in CONTRIBUTING.md says what the import rules enforce."""

import re
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
TABLE = re.findall(r"^\| [\w ]+ \| (`[^|]*) \| ([^|]*) \|$", (PROJECT / "CONTRIBUTING.md").read_text(), re.MULTILINE)


def contracts():
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def names(layer):
    return [name.strip().removeprefix("lesion_exp.") for name in layer.split("|")]


def present(folder):
    entries = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    return entries - {"__init__", "__main__"}


def test_every_room_stands_in_the_table_and_in_the_import_rules():
    in_table = [room for rooms, _ in TABLE for room in re.findall(r"`(\w+)`", rooms)]
    in_rules = [room for layer in contracts()[0]["layers"] for room in names(layer)]
    assert sorted(in_table) == sorted(in_rules) == sorted(present(PROJECT / "lesion_exp"))


def test_the_floors_of_the_table_are_in_the_order_of_the_import_rules():
    level = {room: number for number, layer in enumerate(contracts()[0]["layers"]) for room in names(layer)}
    floors = [[level[room] for room in re.findall(r"`(\w+)`", rooms)] for rooms, _ in TABLE]
    assert all(max(upper) < min(lower) for upper, lower in pairwise(floors))


def test_every_file_and_test_that_the_recipes_name_exists():
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:\w+/)*\w+\.(?:py|yaml))`", text)
    files = {name for name in named if not re.search("NAME|my_conf|mine", name)}
    assert len(files) > 40
    folders = [PROJECT, PROJECT / "lesion_exp", PROJECT / "lesion_exp" / "verbs" / "report"]
    assert {name for name in files if not any((folder / name).is_file() for folder in folders)} == set()
    written = "\n".join(path.read_text() for path in (PROJECT / "tests").rglob("*.py"))
    tests = set(re.findall(r"`(test_\w+)`", text))
    assert len(tests) > 2
    assert {name for name in tests if f"def {name}(" not in written} == set()


def test_no_file_of_the_repository_is_ignored_by_git():
    """ruff and the builder of the wheel leave out what .gitignore names, also where git itself keeps the file."""
    command = ["git", "-C", str(PROJECT), "ls-files", "--cached", "--ignored", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no checkout of git")
    assert listed.stdout == ""
