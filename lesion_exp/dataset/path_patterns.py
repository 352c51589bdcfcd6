"""Patterns of file names and paths, as `dataset.ignore`, `dataset.images` and `dataset.table` take them.

A pattern without a slash fits a file's name; one with a slash the end of its path, and after `./` the whole path below
the root. A zip is a folder in the path (`all.zip!/in/x.jpg`). `*` stands for anything, also across slashes; case does
not matter.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any, Final

from lesion_exp.archive import SEPARATOR

MOST_PATTERNS: Final = 6
"""In an example that a person should still be able to read."""


def fits(path: str, pattern: str) -> bool:
    """Whether `path`, which begins below the root, fits `pattern`."""
    path, pattern = path.lower(), pattern.lower()
    if pattern.startswith("./"):
        return fnmatchcase(path, pattern[2:])
    if "/" not in pattern:
        return fnmatchcase(path.rpartition("/")[2], pattern)
    unzipped = path.replace(SEPARATOR, "/") if SEPARATOR not in pattern else path
    return fnmatchcase(unzipped, pattern) or fnmatchcase(unzipped, f"*/{pattern}")


def pattern_for(path: str, *others: str) -> str:
    """A short pattern that fits `path` and none of `others`: its folder, its ending or the path itself."""
    folder, slash, name = path.rpartition("/")
    suffix = PurePosixPath(name).suffix
    candidates = (
        f"{glob.escape(folder)}/*" if slash else "",
        f"*{suffix}" if suffix else "",
        f"{glob.escape(folder)}/*{suffix}" if slash and suffix else "",
        f"./{glob.escape(path)}",
    )
    return next(each for each in candidates if each and not any(fits(other, each) for other in others))


def ignore_example(paths: Sequence[str]) -> str:
    """`dataset.ignore=` as it is typed in a shell, so that of `paths` the first stays; empty if that were too long."""
    first, *others = paths
    patterns = list(dict.fromkeys(pattern_for(other, first) for other in others))
    return as_override("dataset.ignore", patterns) if len(patterns) <= MOST_PATTERNS else ""


def as_override(key: str, value: str | Sequence[str]) -> str:
    """`key=value` as it is typed in a shell, with the quotes that Hydra's grammar wants."""
    text = as_value(value if isinstance(value, str) else list(value))
    return "'" + f"{key}={text}".replace("'", "'\\''") + "'"


def as_value(value: Any) -> str:
    """`value` in Hydra's grammar: texts in double quotes, the keys of mappings bare."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {as_value(each)}" for key, each in value.items()) + "}"
    if not isinstance(value, str) and isinstance(value, Sequence):
        return "[" + ", ".join(map(as_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
