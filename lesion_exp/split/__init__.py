"""Table -> the same table with a `split`; and the audit that says whether anything leaks from one part to another.

A splitter is a class with `split(table)`. The table has the column `group` (see `groups.assign_groups`): what must stay
together. A splitter that deals images without regard to it says so by a class attribute `leaks = True`."""

from collections.abc import Mapping
from typing import Final

COMMON_KEYS: Final = frozenset({"part", "allow_leakage", "near_duplicate_threshold"})
"""Keys of every `conf/split` that the splitters do not use: the job reads them."""
PARTS: Final[Mapping[str, str]] = {"train": "training", "val": "validation", "test": "test"}
"""The parts, each with what it is called in words."""
