"""Patterns of file names and paths for `dataset.ignore`, `dataset.images` and `dataset.table`.

A pattern without a slash is compared with a file's name, one with a slash with the end of its path, and one that begins
with `./` with the whole path below the root. A zip counts as a folder (`all.zip!/in/x.jpg`). `*` matches any text,
also across slashes. Upper and lower case are equal.
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
"""Greatest number of patterns in an example; a longer one would be unreadable."""


def fits(path: str, pattern: str) -> bool:
    """Returns whether `path`, which begins below the root, matches `pattern`."""
    path, pattern = path.lower(), pattern.lower()
    if pattern.startswith("./"):
        return fnmatchcase(path, pattern[2:])
    if "/" not in pattern:
        return fnmatchcase(path.rpartition("/")[2], pattern)
    unzipped = path.replace(SEPARATOR, "/") if SEPARATOR not in pattern else path
    return fnmatchcase(unzipped, pattern) or fnmatchcase(unzipped, f"*/{pattern}")


def pattern_for(path: str, *others: str) -> str:
    """Returns a short pattern that matches `path` and none of `others`: its folder, its ending or the whole path."""
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
    """Returns an override of `dataset.ignore`, for a shell, that leaves only the first of `paths`; "" if too long."""
    first, *others = paths
    patterns = list(dict.fromkeys(pattern_for(other, first) for other in others))
    return as_override("dataset.ignore", patterns) if len(patterns) <= MOST_PATTERNS else ""


def as_override(key: str, value: str | Sequence[str] | Mapping[str, str]) -> str:
    """Returns `key=value` as it is typed in a shell, with the quotes that Hydra's grammar needs."""
    text = as_value(value if isinstance(value, (str, Mapping)) else list(value))
    return "'" + f"{key}={text}".replace("'", "'\\''") + "'"


def as_value(value: Any) -> str:
    """Returns `value` in Hydra's grammar: texts in double quotes, the keys of mappings without quotes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {as_value(each)}" for key, each in value.items()) + "}"
    if not isinstance(value, str) and isinstance(value, Sequence):
        return "[" + ", ".join(map(as_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
