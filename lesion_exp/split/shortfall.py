"""What of the shares that a split asked for could not be had, because groups stay whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

TOLERANCE: Final = 0.02
"""Distance between a class's share in a part and the share asked for up to which nothing is said; one image is never
worth a word."""


def shares_dealt(splitter: Any, table: pd.DataFrame) -> Mapping[str, float]:
    """The share of each part that `splitter` deals of `table`, of the images in these parts together; empty for a
    splitter without such shares (its method `shares_dealt`), such as one that takes its parts from a file."""
    asked = getattr(splitter, "shares_dealt", None)
    return {} if asked is None else asked(table)


def shortfalls(table: pd.DataFrame, shares: Mapping[str, float]) -> list[str]:
    """A sentence for all images, and one for each class, whose shares in the parts are not those asked for.

    Args:
        table: a split table, with `label`, `group` and `split`.
        shares: what each part was to hold of every class; see `shares_dealt`.
    """
    dealt = table[table["split"].isin(list(shares))]
    found = [_sentence("the images", dealt, shares)]
    found += [_sentence(f"the images of {label}", rows, shares) for label, rows in dealt.groupby("label", sort=True)]
    return [sentence for sentence in found if sentence]


def _sentence(what: str, rows: pd.DataFrame, shares: Mapping[str, float]) -> str:
    counts = rows["split"].value_counts()
    off = {part: int(counts.get(part, 0)) - share * len(rows) for part, share in shares.items()}
    far = [part for part, images in off.items() if abs(images) > max(1.0, TOLERANCE * len(rows))]
    if not far:
        return ""
    groups = rows["group"].value_counts()
    parts = ", ".join(f"{counts.get(part, 0):,} instead of {shares[part] * len(rows):,.0f} in {part}" for part in far)
    return (
        f"the shares asked for could not be met for {what}: {parts}; groups stay whole, and the largest of "
        f"{len(groups):,} (that of image {groups.index[0]}) holds {groups.iloc[0]:,} of {len(rows):,} images"
    )
