"""The names in the folder of prepared data (`paths.data_cache`), by which `clean` knows what this software made there.

They have a module of their own because most of the modules that write these entries import torch, which takes seconds,
and `clean` does not need it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

FEATURES: Final = "features"
"""The folder of the features of frozen networks."""
TEACHERS: Final = "teachers"
"""The folder of the predictions of teachers."""
PREVIEWS: Final = "previews"
"""The folder of the pictures of `preview`."""
SYNTHETIC: Final = "synthetic"
"""The folder of generated images, the default of `dataset.root` in `dataset=synthetic`."""
_STORE: Final = re.compile(r"(?:building_)?(store_[0-9a-f]{16})")
_COPIES: Final = re.compile(r"(copies_[0-9a-f]{16})\.(?:parquet|unfinished)")
_COMPUTED: Final = re.compile(r"(?:building_)?([0-9a-f]{16})")
_DRAWN: Final = re.compile(r"[0-9a-f]{12}|\.building-[0-9a-f]{32}")
_MADE_IN: Final = {FEATURES: _COMPUTED, TEACHERS: _COMPUTED, SYNTHETIC: _DRAWN}


def is_made_here(path: Path, cache_dir: Path) -> bool:
    """Returns whether `path` has the name of a cache entry that this software makes again if it is missing."""
    if path.parent == cache_dir:
        return bool(_STORE.fullmatch(path.name) or _COPIES.fullmatch(path.name))
    pattern = _MADE_IN.get(path.parent.name) if path.parent.parent == cache_dir else None
    return bool(pattern and pattern.fullmatch(path.name))


def lock_of(path: Path) -> Path | None:
    """Returns the path of the lock that a process holds while it makes the entry `path` (see `data.lock.file_lock`).

    Returns None for generated images: each process writes them under its own temporary name, without a lock.
    """
    pattern = _COMPUTED if path.parent.name in (FEATURES, TEACHERS) else None
    for known in (_STORE, _COPIES) if pattern is None else (pattern,):
        if match := known.fullmatch(path.name):
            return path.with_name(f"{match[1]}.lock")
    return None


def is_lock(path: Path) -> bool:
    """Returns whether `path` has the name of the lock of an entry of the cache."""
    return path.suffix == ".lock" and path in (lock_of(path.with_suffix("")), lock_of(path.with_suffix(".parquet")))
