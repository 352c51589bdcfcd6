"""Python and the packages: their versions against those that this project allows and was tested with."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from lesion_exp.config.shipped_conf import conf_dir
from lesion_exp.errors import install_command
from lesion_exp.verbs.doctor.check_result import CheckResult, note, ok, problem

PACKAGE: Final = "lesion-exp"
_FOR_DEVELOPERS: Final = ("dev",)
"""Extras that users do not need."""


def installation() -> Iterator[CheckResult]:
    """Findings about Python, the required packages and the extras."""
    try:
        required = distribution(PACKAGE).requires or []
        pythons = distribution(PACKAGE).metadata["Requires-Python"]
    except PackageNotFoundError:
        yield problem("installation", f"{PACKAGE} is not installed, only on the path", "run make setup in the checkout")
        return
    yield python_version(pythons)
    requirements = [Requirement(text) for text in required]
    yield from packages(requirements, versions_tested())
    yield from extras(requirements)


def python_version(allowed: str, present: str = "") -> CheckResult:
    """Checks whether this Python, or the version `present`, is one of the `allowed` ones (such as `>=3.11,<3.14`)."""
    present = present or ".".join(map(str, sys.version_info[:3]))
    if Requirement(f"python{allowed}").specifier.contains(present, prereleases=True):
        return ok("Python", present)
    return problem(
        "Python", f"{present}, expected {allowed}", "make a new environment: make PYTHON=python3.12 setup, or with venv"
    )


def packages(requirements: list[Requirement], tested: Mapping[str, str]) -> Iterator[CheckResult]:
    """Whether the required packages are there in versions that are allowed, and in those that were tested."""
    needed = [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    wrong = list(filter(None, map(_fault, needed)))
    if wrong:
        named = (f"{each.name}{each.specifier}" for each in needed if _fault(each))
        yield problem("packages", "; ".join(wrong), install_command(*named))
        return
    other = [
        f"{each.name} {version(each.name)} (tested: {tested[_plain(each.name)]})"
        for each in needed
        if tested.get(_plain(each.name), version(each.name)) != version(each.name)
    ]
    if other:
        yield note(
            "packages",
            f"{len(needed)} required packages; other versions than were tested: {', '.join(other)}",
            "they are allowed; make setup, or pip install --constraint scripts/constraints.txt, installs the tested "
            "versions",
        )
    elif tested:
        yield ok("packages", f"{len(needed)} required packages, all of the tested versions")
    else:
        yield ok("packages", f"{len(needed)} required packages, all of allowed versions")


def extras(requirements: list[Requirement]) -> Iterator[CheckResult]:
    """Which extras are installed, and whether one is installed in part or in a version that is not allowed."""
    names = list(dict.fromkeys(name for each in requirements if each.marker for name in _extras_of(each)))
    complete, absent = [], []
    for name in names:
        if name in _FOR_DEVELOPERS:
            continue
        parts = [each for each in requirements if name in _extras_of(each)]
        faults = list(filter(None, map(_fault, parts)))
        present = [each for each in parts if _installed(each.name)]
        if not faults:
            complete.append(name)
        elif any("expected" in fault for fault in faults):
            yield problem(f"extra {name}", "; ".join(faults), install_command(f"{PACKAGE}[{name}]"))
        else:
            absent.append(f"{name} (in part)" if present else name)
    yield ok("extras", f"installed: {', '.join(complete) or 'none'}; not installed: {', '.join(absent) or 'none'}")


def versions_tested(file: Path | None = None) -> dict[str, str]:
    """Returns the version of each package that this checkout was tested with; empty outside a checkout."""
    path = file or conf_dir().parent / "scripts" / "constraints.txt"
    if not path.is_file():
        return {}
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    pairs = (line.partition("==") for line in lines if "==" in line)
    return {_plain(name): text.partition(";")[0].strip() for name, _, text in pairs}


def _fault(requirement: Requirement) -> str:
    found = _installed(requirement.name)
    if found is None:
        return f"{requirement.name} is not installed"
    try:
        fits = requirement.specifier.contains(Version(found), prereleases=True)
    except InvalidVersion:
        fits = True
    return "" if fits else f"{requirement.name} {found}, expected {requirement.specifier}"


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _extras_of(requirement: Requirement) -> list[str]:
    return re.findall(r"""extra\s*==\s*['"]([\w-]+)['"]""", str(requirement.marker or ""))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
