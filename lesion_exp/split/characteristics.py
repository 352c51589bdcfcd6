"""Who is in each part of a split: the table that a paper begins with."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd

from lesion_exp.split import PARTS

ATTRIBUTES: Final = ("sex", "site", "source")


def characteristics(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """By part, as plain values: `images`, `age` in years (median, lower and upper quartile, how many are unknown), and
    the images of each sex, site and source. Resampled rows count as often as they stand there."""
    return {part: _of_part(table[table["split"] == part]) for part in PARTS if (table["split"] == part).any()}


def _of_part(rows: pd.DataFrame) -> dict[str, Any]:
    lower, median, upper = (None if pd.isna(age) else float(age) for age in rows["age"].quantile([0.25, 0.5, 0.75]))
    counts = {name: rows[name].value_counts() for name in ATTRIBUTES}
    return {
        "images": len(rows),
        "age": {"median": median, "lower": lower, "upper": upper, "unknown": int(rows["age"].isna().sum())},
        **{name: {str(value): int(count) for value, count in found.items()} for name, found in counts.items()},
    }
