"""What of the shares that a split asked for could not be had, because groups stay whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

SHOWN: Final = 10
"""All images and classes that are named."""
TOLERANCE: Final = 0.02
"""Distance between a class's share in a part and the share asked for up to which nothing is said; one image is never
worth a word."""


def shares_dealt(splitter: Any, table: pd.DataFrame) -> Mapping[str, float]:
    """The share of each part that `splitter` deals of `table`, of the images in these parts together; empty for a
    splitter without such shares (its method `shares_dealt`), such as one that takes its parts from a file."""
    asked = getattr(splitter, "shares_dealt", None)
    return {} if asked is None else asked(table)


def shortfalls(table: pd.DataFrame, shares: Mapping[str, float]) -> list[str]:
    """A sentence that names the shares of the parts, of all images and of each class, that are not those asked for;
    empty where there are none.

    Args:
        table: a split table, with `label`, `group` and `split`.
        shares: what each part was to hold of every class; see `shares_dealt`.
    """
    dealt = table[table["split"].isin(list(shares))]
    rows_of = [("all images", dealt), *dealt.groupby("label", sort=True)]
    found = [words for name, rows in rows_of if (words := _in_words(str(name), rows, shares))]
    if not found:
        return []
    groups = dealt["group"].value_counts()
    more = f"; and {len(found) - SHOWN} more classes" if len(found) > SHOWN else ""
    return [
        f"the shares asked for could not be met, because groups stay whole (the largest, that of image "
        f"{groups.index[0]}, holds {groups.iloc[0]:,} of {len(dealt):,} images): {'; '.join(found[:SHOWN])}{more}"
    ]


def _in_words(name: str, rows: pd.DataFrame, shares: Mapping[str, float]) -> str:
    counts = rows["split"].value_counts()
    off = {part: int(counts.get(part, 0)) - share * len(rows) for part, share in shares.items()}
    far = [part for part, images in off.items() if abs(images) > max(1.0, TOLERANCE * len(rows))]
    parts = [f"{counts.get(part, 0):,} instead of {shares[part] * len(rows):,.0f} in {part}" for part in far]
    return f"{name} {', '.join(parts)}" if parts else ""
