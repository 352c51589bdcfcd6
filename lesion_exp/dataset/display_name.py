"""The name of a data set in tables and reports, where different data sets must have different names."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_IDENTIFYING_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "folder": ("root",), "csv": ("root", "table"), "combined": ("sets",),
}  # fmt: skip
"""Readers of the user's own data -> the config keys that identify the data set."""
_READERS: Final = tuple(f"lesion_exp.dataset.{name}." for name in _IDENTIFYING_KEYS)
_DIGITS: Final = 4
"""Hexadecimal digits of the digest in a name."""


def display_name(dataset: Mapping[str, Any]) -> str:
    """Returns the name to show for a data set.

    It is `dataset.name`, except for readers of the user's own data: `clinic-3f2a` for `dataset=folder
    dataset.root=/data/clinic`, and `combined-3f2a` for `dataset=combined`. The four digits distinguish two folders of
    the same name. They are a digest of the config keys, from which nobody can recover a path.

    Args:
        dataset: the node `dataset` of a job's config.
    """
    name = str(dataset["name"])
    if name not in _IDENTIFYING_KEYS:
        return name
    given = {key: dataset.get(key) for key in _IDENTIFYING_KEYS[name]}
    if "root" in given:
        path = Path(str(given["root"])).expanduser().absolute()
        given["root"] = str(path)
        name = re.sub(r"[^\w.-]+", "_", path.stem).strip("._") or name
    text = json.dumps(given, sort_keys=True, default=str)
    return f"{name}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:_DIGITS]}"


def is_own(dataset: Mapping[str, Any]) -> bool:
    """Returns whether the node `dataset` of a job's config reads a table, a folder or several sets of the user.

    What such data are, and where they come from, is known to the user alone.
    """
    return str(dataset.get("_target_", "")).startswith(_READERS)
