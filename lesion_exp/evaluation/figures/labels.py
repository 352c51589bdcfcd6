"""Names of classes and subgroups that fit into the place that a picture has for them, and can still be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, takewhile
from textwrap import wrap
from typing import Final

NUMBERED_FROM: Final = 13
"""Pictures of so many classes number them, or give each its own panel: no reader keeps 13 colours apart."""
_HEADS: Final = (0.6, 0.45, 0.3, 0.15)
"""Share of a shortened name that is its beginning; the first that tells all names apart is taken."""
_DOTS: Final = "…"


def labels(names: Sequence[str], width: int, lines: int = 1) -> list[str]:
    """Each name in up to `lines` lines of up to `width` characters; different names have different labels.

    A name that is too long loses its middle. Names that would look the same then lose another part; names that differ
    in nothing but what is lost end with a number. Capitals stay as they are.
    """
    for length in range(width * lines, width - 1, -1):
        rows = [_wrapped(text, width) for text in _distinct(names, length)]
        if all(len(found) <= lines for found in rows):
            return ["\n".join(found) for found in rows]
    return _distinct(names, width)


def shortened(name: str, length: int, head: float = _HEADS[0]) -> str:
    """`name` in at most `length` characters, with an ellipsis where its middle is missing.

    Args:
        name: any text.
        length: at least 3.
        head: the share of what is kept that comes from the beginning.
    """
    if len(name) <= length:
        return name
    begin = max(1, round(head * (length - 1)))
    end = length - 1 - begin
    return name[:begin].rstrip() + _DOTS + (name[-end:].lstrip() if end else "")


def _distinct(names: Sequence[str], length: int) -> list[str]:
    """Labels of one line; different names get different ones."""
    found: dict[str, str] = {}
    for group in _groups({name: name[: _begin(length)] for name in names}):
        start = _start_of_difference(group) if len(group) > 1 else 0
        found |= {name: _from(name, start, length) for name in group}
    for group in _groups(found):
        if len(group) == 1:
            continue
        others = {label for name, label in found.items() if name not in group}
        found |= _told_apart(group, length, others)
    return [found[name] for name in names]


def _groups(found: dict[str, str]) -> list[list[str]]:
    """The names that have the same text."""
    groups: dict[str, list[str]] = {}
    for name, text in found.items():
        groups.setdefault(text, []).append(name)
    return list(groups.values())


def _begin(length: int) -> int:
    """How much of its beginning a name keeps where the names that begin alike are told apart by a later part."""
    return max(2, round(0.35 * length))


def _told_apart(group: Sequence[str], length: int, taken: set[str]) -> dict[str, str]:
    start = _start_of_difference(group)
    ways = [{name: _from(name, start, length) for name in group}]
    ways += [{name: shortened(name, length, head) for name in group} for head in _HEADS[1:]]
    for way in ways:
        if len(set(way.values())) == len(group) and not taken & set(way.values()):
            return way
    endings = (f"{_DOTS}{number}" for number in count(1))
    free = (label for ending in endings if (label := group[0][: length - len(ending)].rstrip() + ending) not in taken)
    return dict(zip(group, free, strict=False))


def _start_of_difference(group: Sequence[str]) -> int:
    """The first letter of the word in which the names of `group` begin to differ."""
    start = sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*group, strict=False)))
    return max(group[0].rfind(mark, 0, start) for mark in " _-/") + 1


def _from(name: str, start: int, length: int) -> str:
    """The beginning of `name`, and what stands from `start` on, which is shortened in turn where it is too long."""
    begin = _begin(length)
    if start <= begin or len(name) <= length:
        return shortened(name, length)
    rest = shortened(name[start:], length - begin - 1)
    return name[: length - 1 - len(rest)].rstrip() + _DOTS + rest


def _wrapped(text: str, width: int) -> list[str]:
    """`text` in lines, which break between words or after an ellipsis where that is possible."""
    rows = wrap(text.replace(_DOTS, f"{_DOTS} "), width)
    return [row.replace(f"{_DOTS} ", _DOTS) for row in rows] or [text]
