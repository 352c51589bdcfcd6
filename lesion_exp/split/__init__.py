"""Table -> the same table with a `split`; and the audit that says whether anything leaks from one part to another."""

from typing import Final

COMMON_KEYS: Final = frozenset({"part", "allow_leakage"})
"""Keys of every `conf/split` that the splitters do not use: the job reads them."""
PARTS: Final = ("train", "val", "test")
