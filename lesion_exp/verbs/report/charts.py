"""Charts as inline SVG with the colours of the page, for light and dark screens, phones and paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

WIDTH, HEIGHT = 440, 300
COLOURS: Final = 12
"""The number of colours in the style of the page, `--c0` and so on."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 12, 42
_BAR_WIDTH: Final = 120


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high` with ticks."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Returns the position of a value: 0 at `low`, 1 at `high`."""
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Line:
    """A curve; without a colour it is a dotted reference line."""

    xs: Sequence[float]
    ys: Sequence[float]
    colour: int | None = 0
    dashed: bool = False
    markers: bool = False


@dataclass(frozen=True)
class Band:
    """The area between two curves."""

    xs: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]
    colour: int = 0


@dataclass(frozen=True)
class Dots:
    """Points with radii in pixels."""

    xs: Sequence[float]
    ys: Sequence[float]
    radii: Sequence[float]
    colour: int = 0


@dataclass(frozen=True)
class Mark:
    """A vertical line with a label."""

    x: float
    text: str


Drawn = Line | Band | Dots | Mark
"""An element of a plot."""


def unit_axis(label: str) -> Axis:
    """Returns an axis from 0 to 1."""
    return Axis(label, 0.0, 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))


def round_axis(label: str, values: Sequence[float], *, least: float | None = None, whole: bool = False) -> Axis:
    """Returns an axis that contains `values`, with ticks at round numbers; it begins at `least` if that is not None."""
    known = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(known) if least is None else least, max(known)
    high = high if high > low else low + (abs(low) or 1.0)
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step = next(step * factor for factor in (1, 2, 2.5, 5, 10) if (high - low) / (step * factor) <= 5)
    step = max(1.0, round(step)) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(step * place for place in range(first, last + 1))
    return Axis(
        label, low if least is not None else ticks[0], ticks[-1], tuple(t for t in ticks if t >= low or least is None)
    )


def plot(description: str, x: Axis, y: Axis, marks: Sequence[Drawn]) -> Markup:
    """Returns a plot with its axes and `marks`, drawn in their order; `description` is the text alternative."""
    body = Markup("").join([_grid(x, y), *(_drawn(mark, x, y) for mark in marks)])
    return _svg(WIDTH, HEIGHT, "plot", description, body)


def panel(
    description: str, name: str, text: str, xs: Sequence[float], ys: Sequence[float], guessing: float | None
) -> Markup:
    """Returns a small square plot of a curve from 0 to 1, one of many, with texts below it.

    Args:
        description: the text alternative.
        name: the name of the curve.
        text: the text below the name.
        xs: 0..1.
        ys: 0..1.
        guessing: height of the dotted line for guessing; None is the diagonal.
    """
    places = [f"{100 * x:.1f} {100 - 100 * y:.1f}" for x, y in zip(xs, ys, strict=True)]
    path = "L".join(place for number, place in enumerate(places) if not number or place != places[number - 1])
    reference = "M0 100L100 0" if guessing is None else f"M0 {100 - 100 * guessing:.1f}H100"
    return Markup(
        '<div class="panel"><svg viewBox="-2 -2 104 104" role="img" aria-label="{}"><path class="grid" '
        'd="M0 0H100V100H0ZM50 0V100M0 50H100"/><path class="reference" d="{}"/><path class="line s0" d="M{}"/></svg>'
        "<b>{}</b><span>{}</span></div>"
    ).format(description, reference, path, name, text)


def interval_bar(value: float, low: float | None, high: float | None, reference: float | None = None) -> Markup:
    """Returns a drawing of a value between 0 and 1, its interval and a reference line, for a cell of a table."""

    def place(share: float) -> float:
        return round(4 + (_BAR_WIDTH - 8) * min(max(share, 0.0), 1.0), 1)

    parts = [Markup('<path class="base" d="M4 8H{}"/>').format(_BAR_WIDTH - 4)]
    if reference is not None:
        parts.append(Markup('<path class="reference" d="M{} 1V15"/>').format(place(reference)))
    if low is not None and high is not None:
        parts.append(Markup('<path class="interval" d="M{} 8H{}"/>').format(place(low), place(high)))
    parts.append(Markup('<circle class="point" cx="{}" cy="8" r="3.4"/>').format(place(value)))
    return Markup('<svg class="bar" viewBox="0 0 {} 16" aria-hidden="true">{}</svg>').format(
        _BAR_WIDTH, Markup("").join(parts)
    )


def tick_text(value: float) -> str:
    """Returns the text of a tick, such as `0.25`, `40` or `0.001`."""
    return "0" if abs(value) < 1e-12 else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _drawn(mark: Drawn, x: Axis, y: Axis) -> Markup:
    if isinstance(mark, Mark):
        place = _px(x, mark.x)
        anchor, shift = ("end", -4) if x.at(mark.x) > 0.6 else ("start", 4)
        return Markup(
            '<path class="mark" d="M{} {}V{}"/><text class="mark" x="{}" y="{}" text-anchor="{}">{}</text>'
        ).format(place, _TOP, HEIGHT - _BOTTOM, place + shift, HEIGHT - _BOTTOM - 6, anchor, mark.text)
    if isinstance(mark, Dots):
        points = [
            Markup('<circle cx="{}" cy="{}" r="{:.1f}"/>').format(_px(x, a), _py(y, b), radius)
            for a, b, radius in zip(mark.xs, mark.ys, mark.radii, strict=True)
            if math.isfinite(a) and math.isfinite(b)
        ]
        return Markup('<g class="dots f{}">{}</g>').format(mark.colour % COLOURS, Markup("").join(points))
    if isinstance(mark, Band):
        there, back = _points(mark.xs, mark.highs, x, y), _points(mark.xs, mark.lows, x, y)[::-1]
        return Markup('<path class="band f{}" d="M{}Z"/>').format(mark.colour % COLOURS, "L".join([*there, *back]))
    points_of = _points(mark.xs, mark.ys, x, y)
    if not points_of:
        return Markup("")
    looks = "reference" if mark.colour is None else f"line s{mark.colour % COLOURS}{' dashed' if mark.dashed else ''}"
    path = Markup('<path class="{}" d="M{}"/>').format(looks, "L".join(points_of))
    if mark.markers or len(points_of) == 1:
        path += _drawn(Dots(mark.xs, mark.ys, [2.6] * len(mark.xs), mark.colour or 0), x, y)
    return path


def _grid(x: Axis, y: Axis) -> Markup:
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    parts = []
    for tick in y.ticks:
        place = _py(y, tick)
        parts.append(
            Markup(
                '<path class="grid" d="M{} {}H{}"/><text class="tick" x="{}" y="{}" text-anchor="end">{}</text>'
            ).format(_LEFT, place, right, _LEFT - 6, place + 4, tick_text(tick))
        )
    for tick in x.ticks:
        place = _px(x, tick)
        parts.append(
            Markup(
                '<path class="grid" d="M{} {}V{}"/><text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>'
            ).format(place, _TOP, bottom, place, bottom + 16, tick_text(tick))
        )
    parts.append(
        Markup('<text class="name" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            (_LEFT + right) / 2, HEIGHT - 6, x.label
        )
    )
    parts.append(
        Markup('<text class="name" transform="translate(12 {}) rotate(-90)" text-anchor="middle">{}</text>').format(
            (_TOP + bottom) / 2, y.label
        )
    )
    return Markup("").join(parts)


def _points(xs: Sequence[float], ys: Sequence[float], x: Axis, y: Axis) -> list[str]:
    """The points of a curve in pixels, without repeated ones."""
    places = [f"{_px(x, a)} {_py(y, b)}" for a, b in zip(xs, ys, strict=True) if math.isfinite(a) and math.isfinite(b)]
    return [place for number, place in enumerate(places) if not number or place != places[number - 1]]


def _px(axis: Axis, value: float) -> float:
    return round(_LEFT + axis.at(value) * (WIDTH - _LEFT - _RIGHT), 1)


def _py(axis: Axis, value: float) -> float:
    return round(HEIGHT - _BOTTOM - axis.at(value) * (HEIGHT - _TOP - _BOTTOM), 1)


def _svg(width: int, height: int, looks: str, description: str, body: Markup) -> Markup:
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        looks, width, height, description, body
    )


_MOST_NAMES: Final = 10
"""If there are more values, numbers get a numeric scale, and the names of other values are left out."""
_LONGEST: Final = 22
_APART: Final = 124
"""The least distance of two axes, in pixels."""
_HEAD, _FOOT, _SIDE = 34, 18, 76
_SMALLER, _LARGER = 0.8, 1.25
"""The smallest and largest scale at which the chart is shown on a screen; on smaller screens it scrolls."""


@dataclass(frozen=True)
class Scale:
    """An axis of a parallel-coordinates plot, with the positions of values and texts: 0 is the bottom, 1 the top."""

    label: str
    places: dict[str, float]
    texts: dict[str, float]


def scale_of(label: str, values: Sequence[str]) -> Scale:
    """Returns a scale with equal distances between the sorted values, or a numeric scale for many numbers."""
    known = sorted(set(values), key=lambda value: (_number(value) is None, _number(value) or 0.0, value))
    numbers = [number for value in known if (number := _number(value)) is not None]
    if len(known) > _MOST_NAMES and len(numbers) == len(known):
        return number_scale(label, numbers, known)
    places = {value: place / (len(known) - 1) if len(known) > 1 else 0.5 for place, value in enumerate(known)}
    return Scale(
        label, places, {_cut(value): place for value, place in places.items()} if len(known) <= _MOST_NAMES else {}
    )


def number_scale(label: str, numbers: Sequence[float], names: Sequence[str]) -> Scale:
    """Returns a numeric scale between round numbers; it is logarithmic if numbers differ by more than a factor of 50.

    Args:
        label: name of the quantity.
        numbers: the values.
        names: the texts of the values, by which lines refer to them.
    """
    low, high = min(numbers), max(numbers)
    if low == high:  # another tick could be a number that is impossible for the quantity
        return Scale(label, dict.fromkeys(names, 0.5), {tick_text(low): 0.5})
    if low > 0 and high / low > 50:
        span = math.log(high / low)
        places = {name: math.log(number / low) / span for name, number in zip(names, numbers, strict=True)}
        return Scale(f"{label} (log)", places, {tick_text(low): 0.0, tick_text(high): 1.0})
    axis = round_axis(label, list(numbers))
    texts = {tick_text(tick): axis.at(tick) for tick in axis.ticks}
    return Scale(label, {name: axis.at(number) for name, number in zip(names, numbers, strict=True)}, texts)


def parallel(description: str, scales: Sequence[Scale], lines: Sequence[tuple[Sequence[str], bool]]) -> Markup:
    """Returns a parallel-coordinates plot.

    Args:
        description: the text alternative.
        scales: the axes.
        lines: for each line its value on each axis, and whether it is one of the best, which are drawn last.
    """
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
        Markup('<path class="axis" d="M{:.1f} {}V{}"/>').format(x, _HEAD, HEIGHT - _FOOT),
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
    return round(HEIGHT - _FOOT - place * (HEIGHT - _HEAD - _FOOT), 1)


def _cut(text: str) -> str:
    last = text.rpartition(".")[2] if _number(text) is None else text
    return last if len(last) <= _LONGEST else f"{last[: _LONGEST - 1]}…"
