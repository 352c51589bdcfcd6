import sys

import pytest
from packaging.requirements import Requirement

from lesion_exp.errors import install_command
from lesion_exp.verbs.doctor.installation import extras, installation, packages, python_version, versions_tested


def states(results):
    return {result.name: result.state for result in results}


def test_the_environment_of_the_tests_has_no_problem():
    results = list(installation())
    assert {"Python", "packages", "extras"} <= set(states(results))
    assert "problem" not in states(results).values(), [result for result in results if result.state == "problem"]


@pytest.mark.parametrize(
    ("present", "state"), [("3.11.2", "ok"), ("3.13.0", "ok"), ("3.10.9", "problem"), ("3.14.0", "problem")]
)
def test_a_python_outside_the_range_is_a_problem(present, state):
    found = python_version(">=3.11,<3.14", present)
    assert found.state == state
    assert (found.remedy != "") == (state == "problem")


def test_a_missing_package_and_a_wrong_version_are_named_with_the_command_that_mends_them():
    wanted = [Requirement(text) for text in ("numpy>=99", "no-such-package-here>=1", "pandas>=2")]
    [found] = packages(wanted, {})
    assert found.state == "problem"
    assert "no-such-package-here is not installed" in found.text
    assert "numpy" in found.text
    assert "pandas" not in found.text
    assert found.remedy == install_command("numpy>=99", "no-such-package-here>=1")


def test_another_version_than_the_tested_one_is_a_note():
    wanted = [Requirement("numpy>=1"), Requirement("pandas>=1")]
    [found] = packages(wanted, {"numpy": "0.1"})
    assert found.state == "note"
    assert "tested: 0.1" in found.text
    assert "pandas" not in found.text


def test_requirements_of_other_systems_and_of_extras_are_not_needed():
    wanted = [
        Requirement("numpy>=1"),
        Requirement('absent-a; extra == "x"'),
        Requirement('absent-b; python_version < "3"'),
    ]
    [found] = packages(wanted, {})
    assert found.state == "ok"
    assert found.text.startswith("1 required")


def test_extras_are_listed_and_one_with_a_version_that_is_not_allowed_is_a_problem():
    wanted = [
        Requirement('numpy>=1; extra == "whole"'),
        Requirement('absent-a; extra == "gone"'),
        Requirement('numpy>=1; extra == "half"'),
        Requirement('absent-a; extra == "half"'),
        Requirement('numpy>=99; extra == "old"'),
        Requirement('absent-a; extra == "dev"'),
    ]
    *problems, listed = extras(wanted)
    assert [(found.name, found.state) for found in problems] == [("extra old", "problem")]
    assert listed.text == "installed: whole; not installed: gone, half (in part)"


def test_the_tested_versions_are_those_of_the_constraints(tmp_path):
    file = tmp_path / "constraints.txt"
    file.write_text("# comment\nNum_Py==2.1.0  # why\ntorch==2.15.0 ; sys_platform == 'linux'\n")
    assert versions_tested(file) == {"num-py": "2.1.0", "torch": "2.15.0"}
    assert versions_tested(tmp_path / "absent.txt") == {}
    assert "torch" in versions_tested(), f"the checkout's own, {sys.path[0]}"
