"""What a reader noticed about the files of a data set: counts of joins, files left out, rows without a partner.

A reader calls `finding`; whoever wants to keep what it says reads inside `collected`.
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
