"""Two tables of a data set as one, with a count of the rows that find no partner on either side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import pandas as pd

from lesion_exp.dataset.findings import finding
from lesion_exp.dataset.image_names import clean_name, image_key
from lesion_exp.errors import DataError, first_cases

LEAST_SHARE: Final = 0.5
"""Of the rows that must find a partner: below it the two tables are not of the same images."""


class Partners:
    """Finds the rows of a table by the name of an image: as it is written, else by its key (see `image_key`)."""

    def __init__(self, names: Iterable[str]) -> None:
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._close: dict[str, list[int]] = defaultdict(list)
        for position, name in enumerate(names):
            self._exact[clean_name(name)].append(position)
            self._close[image_key(name)].append(position)

    def of(self, name: str) -> list[int]:
        """The positions of the rows of `name`."""
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
    """`frame` with the columns of `other` beside it, missing where no row of `other` has the same name in `on`.

    Args:
        frame: the rows that stay, each once.
        other: has a column `on` too.
        on: names of images or lesions; see `Partners` for when two are the same.
        where: the file that `other` comes from.
        source: the data set, for messages.
        remedy: how to go on without `other`, where that can be.
        optional: few rows, or none, may have a partner.

    Raises:
        DataError: fewer than half of the rows find a partner, or one finds several that differ.
    """
    other = other[other[on].notna()].reset_index(drop=True)
    partners = Partners(other[on])
    found = [[] if pd.isna(name) else partners.of(name) for name in frame[on]]
    values = other.drop(columns=on)
    unclear = [name for name, rows in zip(frame[on], found, strict=True) if len(rows) > 1 and _differ(values, rows)]
    if unclear:
        raise DataError(
            f"expected one row for each name in {where}, but {len(unclear):,} names have several that differ:\n"
            f"{first_cases(unclear)}\nkeep one row of each in that file"
        )
    lonely = [str(name) for name, rows in zip(frame[on], found, strict=True) if not rows]
    if not optional:
        _check(len(frame), lonely, frame[on], other[on], where, source, remedy)
    used = {position for rows in found for position in rows}
    unused = [str(name) for position, name in enumerate(other[on]) if position not in used]
    text = (
        f"{len(frame) - len(lonely):,} of {len(frame):,} rows of {source} have a row in {where}; {len(unused):,} rows "
        f"of that file belong to no image"
    )
    cases = [f"not in the file: {name}" for name in lonely[:3]] + [f"only in the file: {name}" for name in unused[:2]]
    finding(text, cases, "warning" if lonely and not optional else "info")
    positions = pd.Series([rows[0] if rows else -1 for rows in found], index=frame.index)
    beside = values.reindex(positions.to_numpy()).set_axis(frame.index)
    return pd.concat([frame, beside], axis=1)


def _differ(values: pd.DataFrame, rows: Sequence[int]) -> bool:
    return len(values.iloc[list(rows)].drop_duplicates()) > 1


def _check(
    total: int, lonely: Sequence[str], names: pd.Series, others: pd.Series, where: str, source: str, remedy: str
) -> None:
    if total - len(lonely) >= LEAST_SHARE * total and len(lonely) < total:
        return
    raise DataError(
        f"expected the rows of {source} in {where} too, but {len(lonely):,} of {total:,} are not there: the rows are "
        f"called {_some(names)}, those of the file {_some(others)}; is it the file of this data set, unchanged? "
        f"Get it again{', or ' + remedy if remedy else ''}"
    )


def _some(names: pd.Series) -> str:
    return ", ".join(repr(str(name)) for name in names.head(3)) or "nothing"
