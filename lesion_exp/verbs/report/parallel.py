"""Parallel coordinates: a line a cell of a sweep, an axis a key, the metric last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from lesion_exp.verbs.report.charts import HEIGHT, WIDTH, round_axis, tick_text

_MOST_NAMES: Final = 10
"""More values than these are a scale if they are numbers, else their names are left out."""
_LONGEST: Final = 22
_APART: Final = 124
"""Pixels between two axes, at least."""
_TOP, _BOTTOM, _SIDE = 34, 18, 76
_SMALLER, _LARGER = 0.8, 1.25
"""How much smaller and larger than its own pixels the drawing may be shown on a screen; then it scrolls."""


@dataclass(frozen=True)
class Scale:
    """An axis: where each value stands, 0 at its foot and 1 at its top, and the texts beside it."""

    label: str
    places: dict[str, float]
    texts: dict[str, float]


def scale_of(label: str, values: Sequence[str]) -> Scale:
    """Values that stand evenly, in order; many numbers on a scale of their own."""
    known = sorted(set(values), key=lambda value: (_number(value) is None, _number(value) or 0.0, value))
    numbers = [number for value in known if (number := _number(value)) is not None]
    if len(known) > _MOST_NAMES and len(numbers) == len(known):
        return number_scale(label, numbers, known)
    places = {value: place / (len(known) - 1) if len(known) > 1 else 0.5 for place, value in enumerate(known)}
    return Scale(
        label, places, {_cut(value): place for value, place in places.items()} if len(known) <= _MOST_NAMES else {}
    )


def number_scale(label: str, numbers: Sequence[float], names: Sequence[str]) -> Scale:
    """Numbers, each known by its name, between round ones; logarithmic over more than a factor of 50."""
    low, high = min(numbers), max(numbers)
    if low == high:  # any other mark would be a number that the quantity may not have
        return Scale(label, dict.fromkeys(names, 0.5), {tick_text(low): 0.5})
    if low > 0 and high / low > 50:
        span = math.log(high / low)
        places = {name: math.log(number / low) / span for name, number in zip(names, numbers, strict=True)}
        return Scale(f"{label} (log)", places, {tick_text(low): 0.0, tick_text(high): 1.0})
    axis = round_axis(label, list(numbers))
    texts = {tick_text(tick): axis.at(tick) for tick in axis.ticks}
    return Scale(label, {name: axis.at(number) for name, number in zip(names, numbers, strict=True)}, texts)


def parallel(description: str, scales: Sequence[Scale], lines: Sequence[tuple[Sequence[str], bool]]) -> Markup:
    """The drawing; each line has a value an axis, and whether it is one of the best, which are drawn last."""
    width = max(WIDTH, 2 * _SIDE + _APART * (len(scales) - 1))
    step = (width - 2 * _SIDE) / max(len(scales) - 1, 1)
    columns = [_SIDE + step * number for number in range(len(scales))]
    parts = []
    for values, is_best in sorted(lines, key=lambda line: line[1]):
        points = [f"{x:.1f} {_y(scale.places[value])}" for x, scale, value in zip(columns, scales, values, strict=True)]
        looks = "line s1 best" if is_best else "line s0 faint"
        parts.append(Markup('<path class="{}" d="M{}"/>').format(looks, "L".join(points)))
    parts += [_axis(x, scale) for x, scale in zip(columns, scales, strict=True)]
    return Markup(
        '<svg class="plot" style="min-width: {:.0f}px; max-width: {:.0f}px" viewBox="0 0 {} {}" role="img" '
        'aria-label="{}">{}</svg>'
    ).format(_SMALLER * width, _LARGER * width, width, HEIGHT, description, Markup("").join(parts))


def _axis(x: float, scale: Scale) -> Markup:
    parts = [
        Markup('<path class="axis" d="M{:.1f} {}V{}"/>').format(x, _TOP, HEIGHT - _BOTTOM),
        Markup('<text class="name" x="{:.1f}" y="16" text-anchor="middle">{}</text>').format(x, _cut(scale.label)),
    ]
    parts += [
        Markup('<text class="tick halo" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            x, _y(place) + 4, text
        )
        for text, place in scale.texts.items()
    ]
    return Markup("").join(parts)


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _y(place: float) -> float:
    return round(HEIGHT - _BOTTOM - place * (HEIGHT - _TOP - _BOTTOM), 1)


def _cut(text: str) -> str:
    last = text.rpartition(".")[2] if _number(text) is None else text
    return last if len(last) <= _LONGEST else f"{last[: _LONGEST - 1]}…"
