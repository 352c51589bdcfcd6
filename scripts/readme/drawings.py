"""The drawings of docs/concepts.md as SVG: boxes in columns, with arrows from each column to the next."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import Final

Box = tuple[str, str]
"""A title, and a line below it, which may be empty."""

_WIDTH, _HEIGHT, _GAP, _BETWEEN, _MARGIN = 210, 56, 16, 76, 16
_PART = 272
_INK, _FRAME, _FILL, _PAPER = "#1f2937", "#5c6bc0", "#eef0fb", "#ffffff"
_FONT: Final = 'font-family="system-ui, Helvetica, Arial, sans-serif"'


def flow(title: str, columns: Sequence[Sequence[Box]]) -> str:
    """Boxes in columns; an arrow leads from each box to each box of the next column, where one of both is alone."""
    tallest = max(len(column) for column in columns)
    width = len(columns) * _WIDTH + (len(columns) - 1) * _BETWEEN + 2 * _MARGIN
    height = tallest * (_HEIGHT + _GAP) - _GAP + 2 * _MARGIN
    places = [_places(column, number, height) for number, column in enumerate(columns)]
    shapes = []
    for here, there in pairwise(places):
        assert min(len(here), len(there)) == 1, "arrows between two columns of several boxes would cross"
        shapes += [
            _arrow(x + _WIDTH, y + _HEIGHT / 2, to_x, to_y + _HEIGHT / 2) for x, y in here for to_x, to_y in there
        ]
    for column, at in zip(columns, places, strict=True):
        shapes += [_box(box, x, y) for box, (x, y) in zip(column, at, strict=True)]
    return _picture(title, width, height, shapes)


def chain(title: str, boxes: Sequence[Box], in_a_row: int) -> str:
    """Boxes one after the other, in rows."""
    rows = -(-len(boxes) // in_a_row)
    width = in_a_row * _WIDTH + (in_a_row - 1) * _BETWEEN // 2 + 2 * _MARGIN
    height = rows * (_HEIGHT + 2 * _GAP) - 2 * _GAP + 2 * _MARGIN
    step = _WIDTH + _BETWEEN // 2
    at = [
        (_MARGIN + number % in_a_row * step, _MARGIN + number // in_a_row * (_HEIGHT + 2 * _GAP))
        for number in range(len(boxes))
    ]
    shapes = []
    for (x, y), (to_x, to_y) in pairwise(at):
        if y == to_y:
            shapes.append(_arrow(x + _WIDTH, y + _HEIGHT / 2, to_x, y + _HEIGHT / 2))
        else:
            middle = y + _HEIGHT + _GAP
            path = f"M{x + _WIDTH / 2} {y + _HEIGHT}V{middle}H{to_x + _WIDTH / 2}V{to_y - 2}"
            shapes.append(f'<path d="{path}" fill="none" stroke="{_FRAME}" stroke-width="1.5" marker-end="url(#tip)"/>')
    shapes += [_box(box, x, y) for box, (x, y) in zip(boxes, at, strict=True)]
    return _picture(title, width, height, shapes)


def parts(title: str, groups: Sequence[tuple[str, str, int, str]]) -> str:
    """Groups of images, each a row of squares in one colour, in the frame of their part.

    Args:
        title: what the drawing shows.
        groups: the name of the group, its part (train, val or test), its number of images, and their colour.
    """
    names = ("train", "val", "test")
    rows = max(sum(part == name for _, part, _, _ in groups) for name in names)
    width = 3 * _PART + 2 * _BETWEEN // 2 + 2 * _MARGIN
    height = 34 + rows * 40 + 2 * _MARGIN
    shapes = []
    for number, name in enumerate(names):
        x = _MARGIN + number * (_PART + _BETWEEN // 2)
        shapes.append(
            f'<rect x="{x}" y="{_MARGIN}" width="{_PART}" height="{height - 2 * _MARGIN}" rx="6" fill="{_FILL}" '
            f'stroke="{_FRAME}" stroke-width="1.5"/>'
        )
        shapes.append(_text(name, x + _PART / 2, _MARGIN + 22, 15, "600"))
        inside = [(group, count, colour) for group, part, count, colour in groups if part == name]
        for row, (group, count, colour) in enumerate(inside):
            y = _MARGIN + 36 + row * 40
            shapes += [
                f'<rect x="{x + 12 + 26 * image}" y="{y}" width="22" height="22" rx="3" fill="{colour}"/>'
                for image in range(count)
            ]
            shapes.append(_text(group, x + 20 + 26 * count, y + 16, 12, "400", "start"))
    return _picture(title, width, height, shapes)


def _places(column: Sequence[Box], number: int, height: int) -> list[tuple[float, float]]:
    used = len(column) * (_HEIGHT + _GAP) - _GAP
    top = (height - used) / 2
    return [(_MARGIN + number * (_WIDTH + _BETWEEN), top + row * (_HEIGHT + _GAP)) for row in range(len(column))]


def _box(box: Box, x: float, y: float) -> str:
    title, line = box
    shape = (
        f'<rect x="{x:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="{_FILL}" stroke="{_FRAME}" '
        f'stroke-width="1.5"/>'
    )
    if not line:
        return shape + _text(title, x + _WIDTH / 2, y + _HEIGHT / 2 + 5, 15, "600")
    return shape + _text(title, x + _WIDTH / 2, y + 24, 15, "600") + _text(line, x + _WIDTH / 2, y + 43, 12, "400")


def _arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    middle = (x + to_x) / 2
    path = f"M{x:g} {y:g}C{middle:g} {y:g} {middle:g} {to_y:g} {to_x - 2:g} {to_y:g}"
    return f'<path d="{path}" fill="none" stroke="{_FRAME}" stroke-width="1.5" marker-end="url(#tip)"/>'


def _text(text: str, x: float, y: float, size: int, weight: str, anchor: str = "middle") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{_INK}" '
        f"{_FONT}>{escape(text)}</text>"
    )


def _picture(title: str, width: int, height: int, shapes: Sequence[str]) -> str:
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{_FRAME}"/></marker></defs>'
    )
    body = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img">\n<title>{escape(title)}</title>\n{tip}\n'
        f'<rect width="{width}" height="{height}" rx="8" fill="{_PAPER}"/>\n{body}\n</svg>\n'
    )


DRAWINGS: Final = {
    "docs/pictures/table.svg": flow(
        "Data sets in any layout become one table, which everything else reads",
        [
            [("zips and metadata", "HAM10000, ISIC, PH2, ..."), ("HDF5, npz", "ISIC 2024, DermaMNIST"),
             ("your folder or csv", "dataset=folder, dataset=csv")],
            [("one table", "a row for each image")],
            [("filter", "dataset.filter"), ("split and audit", "split=grouped"), ("sampler", "sampler=weighted"),
             ("report", "counts, subgroups")],
        ],
    ),
    "docs/pictures/split.svg": parts(
        "The images of a lesion, of a patient and near-duplicates are in one part",
        [
            ("lesion 1", "train", 3, "#5c6bc0"), ("lesion 2", "train", 1, "#26a69a"),
            ("lesions 3, 4: one patient", "train", 2, "#ef6c00"), ("lesion 5", "val", 2, "#8d6e63"),
            ("lesion 6", "test", 2, "#d81b60"), ("7, 8: near-duplicates", "test", 2, "#7cb342"),
        ],
    ),
    "docs/pictures/job.svg": flow(
        "Everything that trains runs one frozen job",
        [
            [("command", "lesion-exp train"), ("cell of a sweep", "train -m"),
             ("task of a cluster", "SLURM, Ray, torchrun"), ("reproduction", "lesion-exp reproduce")],
            [("job.yaml", "resolved, with a hash")],
            [("run", "in MLflow")],
        ],
    ),
    "docs/pictures/randomness.svg": flow(
        "Order and augmentation follow from numbers, not from what happened before",
        [
            [("seed, epoch", ""), ("seed, epoch, position", "of an image")],
            [("a function", "the same on any machine")],
            [("order of an epoch", "and augmentation of an image")],
            [("the same weights", "any workers, after any stop")],
        ],
    ),
    "docs/pictures/predictions.svg": flow(
        "All results are functions of one table of predictions",
        [
            [("your network", "a run"), ("anybody's predictions", "lesion-exp import")],
            [("predictions table", "p_mel, p_nv, ..., label")],
            [("metrics, intervals", "evaluate"), ("calibration, thresholds", "evaluate"), ("ensembles", "evaluate"),
             ("comparisons", "compare"), ("a page, tables", "report, table")],
        ],
    ),
    "docs/pictures/way.svg": chain(
        "The way of the data from the command to MLflow",
        [
            ("overrides", "what you type"), ("conf/", "options and keys"), ("job", "frozen"),
            ("table", "a row an image"), ("split", "with an audit"), ("image store", "decoded once"),
            ("batches", "sampled, augmented"),
            ("network", "trained"), ("predictions table", "p_mel, p_nv, ..."), ("evaluation", "with intervals"),
            ("MLflow", "metrics and files"),
        ],
        4,
    ),
}  # fmt: skip
"""The drawings by their paths in the repository."""
