"""The result of an audit as text."""

from __future__ import annotations

import textwrap
from typing import Final

from rich.console import Console
from rich.text import Text

from lesion_exp.evaluation.registry import short_of
from lesion_exp.fitted_table import FittedTable
from lesion_exp.split import PARTS
from lesion_exp.split.overlap import ALL, ANY, CHAIN, NEAR, Overlap
from lesion_exp.trained_runs.wording import percent
from lesion_exp.verbs.audit.audit import SplitAudit
from lesion_exp.verbs.audit.scores import Scores

HEADS: Final = {
    "patients": "same\npatient",
    "lesions": "same\nlesion",
    "identical_images": "same\nfile",
    "copies": "altered\ncopy",
    NEAR: "near-\nduplicate",
    CHAIN: "only by\na chain",
    ANY: "any of\nthese",
}
_WIDEST: Final = 100


def show(result: SplitAudit, shown: Console) -> None:
    """Prints the tables, the notes and the paragraph to quote."""
    for each in result.overlaps:
        shown.print(_overlap(each))
    if result.scores is not None:
        shown.print(_scores(result.scores))
    width = min(shown.width, _WIDEST)
    for sentence in (*result.notes, *result.audit.warnings):
        shown.print(Text(textwrap.fill(f"- {sentence}", width, subsequent_indent="  ")))
    shown.print(Text(f"\n{textwrap.fill(result.paragraph(), width)}"))


def _overlap(found: Overlap) -> FittedTable:
    title = f"{PARTS[found.part]} images that the {PARTS[found.other]} part touches"
    heads = [HEADS[kind] for kind in HEADS if kind in found.touched]
    table = FittedTable(
        "class", f">{PARTS[found.part]}\nimages", *(f">{head}" for head in heads), ">share", title=title
    )
    for label in (*(name for name in found.images if name != ALL), ALL):
        counts = (f"{found.touched[kind][label]:,}" for kind in HEADS if kind in found.touched)
        table.add_row(label, f"{found.images[label]:,}", *counts, percent(found.share(label=label)))
    return table


def _scores(found: Scores) -> FittedTable:
    table = FittedTable(
        "metric", ">all", ">untouched", ">touched", ">all - untouched", title=f"scores of {found.source}"
    )
    table.add_row("images", *(f"{found.images[where]:,}" for where in ("all", "untouched", "touched")), "")
    for name, row in found.metrics.items():
        cells = [f"{row[where].value:.3f}" if where in row else "-" for where in ("all", "untouched", "touched")]
        gap = row.get("difference")
        cells.append("-" if gap is None else f"{gap.value:+z.3f} ({gap.low:+z.3f} to {gap.high:+z.3f})")
        table.add_row(short_of(name), *cells)
    return table
