"""Formats numbers, intervals and names for the pages of runs."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from markupsafe import Markup

from lesion_exp.evaluation.registry import short_of
from lesion_exp.split import PARTS

NONE: Final = "–"


class Value(NamedTuple):
    """The value of a metric, with its 95% interval if it has one."""

    value: float
    low: float | None = None
    high: float | None = None


def as_value(found: Any) -> Value | None:
    """Reads a value from JSON such as `{"value": ..., "low": ..., "high": ...}`; None for other content."""
    if not isinstance(found, Mapping) or not isinstance(found.get("value"), int | float):
        return None
    low, high = found.get("low"), found.get("high")
    whole = isinstance(low, int | float) and isinstance(high, int | float)
    return Value(float(found["value"]), float(low), float(high)) if whole else Value(float(found["value"]))  # type: ignore[arg-type]


def number(value: float | None, digits: int = 3) -> str:
    """Returns the value with `digits` decimals, such as `0.621`; a dash for None or a value that is not finite."""
    return NONE if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def interval(found: Value | None) -> str:
    """Returns the interval as text, such as `0.570 to 0.676`; a dash if there is none."""
    return NONE if found is None or found.low is None else f"{number(found.low)} to {number(found.high)}"


def with_interval(found: Value | None) -> str:
    """Returns the value with its interval, such as `0.621 (0.570 to 0.676)`, the value alone, or a dash for None."""
    if found is None:
        return NONE
    return number(found.value) if found.low is None else f"{number(found.value)} ({interval(found)})"


def stacked(found: Value | None, said: str = "") -> Markup | str:
    """Returns the value with the interval and the text `said` in small print below it, for tables of many columns."""
    if found is None:
        return NONE
    small = [text for text in ("" if found.low is None else interval(found), said) if text]
    return Markup("{}{}").format(
        number(found.value), Markup("").join(Markup("<small>{}</small>").format(text) for text in small)
    )


def counted(count: float, thing: str) -> str:
    """Returns the count with its noun, such as `1,503 images` or `1 image`.

    The plural of a noun on -s or -x ends in -es, that of a noun on -y in -ies.
    """
    many = f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}es" if thing.endswith(("s", "x")) else f"{thing}s"
    return f"{count:,.0f} {thing if count == 1 else many}"


def percent(share: float) -> str:
    """Returns the share (0 to 1) in percent, such as `66.9%`; a dash if it is not finite."""
    return NONE if not math.isfinite(share) else f"{100 * share:.1f}%"


def listed(words: Sequence[str]) -> str:
    """Returns the words as an enumeration, such as `a, b and c`."""
    return " ".join([", ".join(words[:-1]), "and", words[-1]]) if len(words) > 1 else "".join(words)


def within(words: str) -> str:
    """`words` for the middle of a sentence: `Log loss` becomes `log loss`, `AUROC` is unchanged."""
    return words if words[1:2].isupper() or words[1:2].isdigit() else words[:1].lower() + words[1:]


def staged_metric_name(name: str) -> str:
    """Returns a metric's name in words: `val/balanced_accuracy` becomes `validation balanced accuracy`."""
    stage, _, rest = name.partition("/")
    return f"{PARTS.get(stage, stage)} {short_of(rest)}"


def moment(seconds: float) -> str:
    """Returns a time (seconds since 1970) as date and time in UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def duration(seconds: float | None) -> str:
    """Returns a duration as text, such as `40 s`, `12 min` or `1.5 h`; a dash for None."""
    if seconds is None:
        return NONE
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
