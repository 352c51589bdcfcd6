"""Splitters, which add the column `split` to a table, and the audit that finds what leaks from one part to another.

A splitter is a class with a method `split(table)` that returns the table with the column `split`. The rows of a group
must stay together: the table has their ids in the column `group` (see `groups.assign_groups`). A splitter that ignores
groups has the class attribute `leaks = True`.
"""

from collections.abc import Mapping
from typing import Final

COMMON_KEYS: Final = frozenset(
    {"part", "allow_leakage", "near_duplicate_threshold", "near_duplicates", "train_share", "share_seed"}
)
"""Keys of every file in `conf/split` that are not arguments of the splitter."""
PARTS: Final[Mapping[str, str]] = {"train": "training", "val": "validation", "test": "test"}
"""Part of a split -> its name in sentences."""
