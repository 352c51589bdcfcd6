"""The exceptions that a user may see. Each says what was expected, what arrived and what to do next."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in the command, the config, a path or the data: shown as one message, exit code 2."""


class ConfigError(UserError):
    """A config key, value or group that cannot be used."""


class DataError(UserError):
    """A data set that is not what it should be: files missing or corrupt, labels unknown, ids doubled."""


class LeakageError(UserError):
    """A split in which something of the training part reappears in validation or test."""


def not_installed(package: str, wanted_for: str) -> ConfigError:
    """The error for an optional package that a choice needs."""
    return ConfigError(
        f"expected the package {package} for {wanted_for}, but it is not installed; install it with: "
        f"{sys.executable} -m pip install {package}"
    )


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Text that names the `count` known names nearest to `name`, or all of them when none is near."""
    options = sorted(known)
    near = did_you_mean(name, options, count).removeprefix("; ")
    return near or ("known: " + ", ".join(options) if options else "none are known")


def did_you_mean(name: str, known: Iterable[str], count: int = 3) -> str:
    """The end of a message that lists the known names itself: `; did you mean 'x'?`, or nothing when none is near."""
    matches = difflib.get_close_matches(name, sorted(known), n=count, cutoff=0.5)
    return "; did you mean " + " or ".join(repr(match) for match in matches) + "?" if matches else ""


def check_choice(name: str, value: object, known: Iterable[str]) -> None:
    """Checks that `value`, which the user gave for what is called `name`, is one of the `known` values.

    Raises:
        ConfigError: it is not.
    """
    options = list(known)
    if value not in options:
        raise ConfigError(
            f"expected {name} to be one of {', '.join(options)}, got {value!r}{did_you_mean(str(value), options)}"
        )


LONGEST_CASE = 1000
"""Characters of a case that a message shows: a cell of a table may have a million."""
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""Control characters, which a terminal would obey, as they are shown."""


def first_cases(cases: Iterable[object], count: int = 5) -> str:
    """Text with the first `count` cases, one a line and indented, and how many more there are."""
    listed = [_shown(str(case)) for case in cases]
    lines = [f"  - {case}" for case in listed[:count]]
    if len(listed) > count:
        lines.append(f"  ... and {len(listed) - count} more")
    return "\n".join(lines)


def _shown(case: str) -> str:
    text = case.translate(_CONTROLS)
    return text if len(text) <= LONGEST_CASE else f"{text[:LONGEST_CASE]}... ({len(text):,} characters)"
