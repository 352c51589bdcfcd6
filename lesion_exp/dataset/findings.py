"""What a reader noticed about the files of a data set: counts of joins, files left out, rows without a partner.

A reader calls `finding`; whoever wants to keep what it says reads inside `collected`.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

import pandas as pd

from lesion_exp.dataset.image_names import clean_name, image_key
from lesion_exp.errors import DataError, first_cases

log = logging.getLogger(__name__)

Level = Literal["info", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed."""

    level: Level
    """`warning` where a person should look at it."""
    text: str
    """A whole sentence, with the count."""
    cases: tuple[str, ...] = ()
    """The first of what it is about."""

    def in_words(self) -> str:
        """The text with its cases, one a line."""
        return f"{self.text}, for example\n{first_cases(self.cases)}" if self.cases else self.text

    def in_a_line(self) -> str:
        """The text with its cases in one line."""
        return f"{self.text}, for example {'; '.join(self.cases)}" if self.cases else self.text


KEPT_CASES: Final = 5
_current: ContextVar[list[Finding] | None] = ContextVar("findings", default=None)


def finding(text: str, cases: Iterable[object] = (), level: Level = "info") -> None:
    """Logs `text`, and keeps it where somebody collects; of `cases` the first five are kept."""
    found = Finding(level, text, tuple(map(str, islice(cases, KEPT_CASES))))
    log.log(logging.WARNING if level == "warning" else logging.INFO, "%s", found.in_words())
    kept = _current.get()
    if kept is not None:
        kept.append(found)


@contextmanager
def collected() -> Iterator[Sequence[Finding]]:
    """The findings of all that is called inside, in a list that grows."""
    kept: list[Finding] = []
    before = _current.set(kept)
    try:
        yield kept
    finally:
        _current.reset(before)


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
