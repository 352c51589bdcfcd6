"""Joins of two tables by the names of images or lesions, with a count of the rows without a match on either side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import pandas as pd

from lesion_exp.dataset.findings import record_finding
from lesion_exp.errors import DataError, first_cases
from lesion_exp.image_ids import clean_name, image_key

LEAST_SHARE: Final = 0.5
"""Share of the rows that must have a match. Below it, the two tables do not describe the same images."""


class NameIndex:
    """Finds the rows of a table by the name of an image: by the exact name, else by its key (see `image_key`)."""

    def __init__(self, names: Iterable[str]) -> None:
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._close: dict[str, list[int]] = defaultdict(list)
        for position, name in enumerate(names):
            self._exact[clean_name(name)].append(position)
            self._close[image_key(name)].append(position)

    def positions(self, name: str) -> list[int]:
        """Returns the positions of the rows with this name."""
        return self._exact.get(clean_name(name)) or self._close.get(image_key(name), [])


def join_rows(
    frame: pd.DataFrame,
    other: pd.DataFrame,
    on: str,
    where: str,
    source: str,
    remedy: str = "",
    *,
    optional: bool = False,
) -> pd.DataFrame:
    """Returns `frame` with the columns of `other`, missing where no row of `other` has the same name in `on`.

    Args:
        frame: the rows of the result, in their order.
        other: the table whose columns are added; it has a column `on` too.
        on: the column with the names of images or lesions; `NameIndex` says when two names are the same.
        where: the file that `other` was read from, for messages.
        source: the data set, for messages.
        remedy: what the user can do to go on without `other`, if that is possible.
        optional: whether few rows, or none, may have a match.

    Raises:
        DataError: fewer than half of the rows have a match, or a row has several matches that differ.
    """
    other = other[other[on].notna()].reset_index(drop=True)
    index = NameIndex(other[on])
    found = [[] if pd.isna(name) else index.positions(name) for name in frame[on]]
    values = other.drop(columns=on)
    unclear = [name for name, rows in zip(frame[on], found, strict=True) if len(rows) > 1 and _differ(values, rows)]
    if unclear:
        raise DataError(
            f"expected one row for each name in {where}, but {len(unclear):,} names have several rows that differ:\n"
            f"{first_cases(unclear)}\nkeep one row for each of these names in that file"
        )
    unmatched = [str(name) for name, rows in zip(frame[on], found, strict=True) if not rows]
    if not optional:
        _check_enough(len(frame), unmatched, frame[on], other[on], where, source, remedy)
    used = {position for rows in found for position in rows}
    unused = [str(name) for position, name in enumerate(other[on]) if position not in used]
    text = (
        f"{len(frame) - len(unmatched):,} of {len(frame):,} rows of {source} have a row in {where}; {len(unused):,} "
        f"rows of that file belong to no image"
    )
    cases = [f"not in the file: {name}" for name in unmatched[:3]] + [
        f"only in the file: {name}" for name in unused[:2]
    ]
    record_finding(text, cases, "warning" if unmatched and not optional else "info")
    positions = pd.Series([rows[0] if rows else -1 for rows in found], index=frame.index)
    added = values.reindex(positions.to_numpy()).set_axis(frame.index)
    return pd.concat([frame, added], axis=1)


def _differ(values: pd.DataFrame, rows: Sequence[int]) -> bool:
    return len(values.iloc[list(rows)].drop_duplicates()) > 1


def _check_enough(
    total: int, unmatched: Sequence[str], names: pd.Series, others: pd.Series, where: str, source: str, remedy: str
) -> None:
    if total - len(unmatched) >= LEAST_SHARE * total and len(unmatched) < total:
        return
    raise DataError(
        f"expected the rows of {source} in {where} too, but {len(unmatched):,} of {total:,} are not there; the rows "
        f"are called {_examples(names)}, those of the file {_examples(others)}; download the file of this data set "
        f"again{', or ' + remedy if remedy else ''}"
    )


def _examples(names: pd.Series) -> str:
    return ", ".join(repr(str(name)) for name in names.head(3)) or "nothing"
