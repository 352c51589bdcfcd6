"""Every cell of a sweep in a table, and why some failed."""

from __future__ import annotations

from markupsafe import Markup

from lesion_exp.trained_runs.wording import NONE, duration, number, staged_metric_name
from lesion_exp.verbs.report.blocks import Block, Cell, Code, Note, Section, Table, Text
from lesion_exp.verbs.report.swept import TEST, Swept, SweptCell


def cells(swept: Swept) -> Section:
    """The section with the table of cells."""
    tested = [name for name in TEST if any(name in cell.metrics for cell in swept.cells)]
    measured = [*swept.metrics, *tested]
    columns = ["cell", *swept.keys, "status", *(f">{staged_metric_name(name)}" for name in measured), ">time", "run"]
    rows = [_row(cell, swept, measured) for cell in swept.cells]
    table = Table(
        "Every cell, with validation metrics of its best epoch; those of the best choice are bold", columns, rows
    )
    return Section("cells", "Cells", [table, Text("lesion-exp report run=RUN makes the page of a cell.")])


def failed(swept: Swept) -> Section:
    """The section with the errors."""
    blocks: list[Block] = []
    for cell in (cell for cell in swept.cells if cell.status == "failed"):
        blocks.append(Note(f"Cell {cell.number} ({cell.text}): {cell.error or 'without a message'}"))
        if cell.end_of_log:
            blocks.append(Code(f"The end of the log of cell {cell.number}", cell.end_of_log))
    return Section("failed", "Failed cells", blocks or [Text("No cell failed.")])


def _row(cell: SweptCell, swept: Swept, measured: list[str]) -> list[Cell]:
    texts = [
        str(cell.number),
        *(cell.values.get(key, NONE) for key in swept.keys),
        f"{cell.status}, {cell.note}" if cell.note else cell.status,
        *(number(cell.metrics.get(metric), 4) for metric in measured),
        duration(cell.seconds),
        (cell.run_id or NONE)[:8],
    ]
    return [Markup("<strong>{}</strong>").format(text) for text in texts] if cell in swept.best else [*texts]
