"""Findings about the files of a data set: counts of joins, files that were left out, rows that match nothing.

A reader calls `record_finding`. A caller that wants the findings as a list reads the data set inside
`collected_findings`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

from lesion_exp.errors import first_cases

log = logging.getLogger(__name__)

Level = Literal["info", "warning"]
MOST_CASES: Final = 5
"""Cases that a finding lists."""
_current: ContextVar[list[Finding] | None] = ContextVar("findings", default=None)


@dataclass(frozen=True)
class Finding:
    """One observation about the files of a data set."""

    level: Level
    """`warning` if a person should look at it."""
    text: str
    """A sentence about the files, with their number."""
    cases: tuple[str, ...] = ()
    """The first files, rows or names that the sentence is about."""
    column: str | None = None
    """The column whose values were not understood, if the finding is about such values."""
    values: int = 0
    """The number of these values."""

    def in_words(self) -> str:
        """Returns the text with its cases, one per line."""
        return f"{self.text}, for example\n{first_cases(self.cases)}" if self.cases else self.text

    def in_a_line(self) -> str:
        """Returns the text with its cases on one line."""
        return f"{self.text}, for example {'; '.join(self.cases)}" if self.cases else self.text


def record_finding(
    text: str,
    cases: Iterable[object] = (),
    level: Level = "info",
    *,
    column: str | None = None,
    values: int = 0,
) -> None:
    """Logs a finding, and adds it to the list of the surrounding `collected_findings`, if there is one.

    Args:
        text: a sentence about the files, with their number.
        cases: what the sentence is about; the first `MOST_CASES` are listed.
        level: `warning` if a person should look at it.
        column: the column whose values were not understood, if the finding is about such values.
        values: the number of these values.
    """
    found = Finding(level, text, tuple(map(str, islice(cases, MOST_CASES))), column, values)
    log.log(logging.WARNING if level == "warning" else logging.INFO, "%s", found.in_words())
    collected = _current.get()
    if collected is not None:
        collected.append(found)


def repeat_findings(findings: Iterable[Finding]) -> None:
    """Adds findings that were logged before to the list of the surrounding `collected_findings`, if there is one."""
    collected = _current.get()
    if collected is not None:
        collected.extend(findings)


@contextmanager
def collected_findings() -> Iterator[Sequence[Finding]]:
    """Yields a list that grows with every finding that is recorded inside the block."""
    collected: list[Finding] = []
    before = _current.set(collected)
    try:
        yield collected
    finally:
        _current.reset(before)
