"""A search that chooses the next cell from the results of those before: the seam between it and the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from lesion_exp.sweep.cell import PRUNED, Cell
from lesion_exp.sweep.ledger import Sweep
from lesion_exp.sweep.plan import CellMaker, check_cell, make_search
from lesion_exp.sweep.search.dimension import Dimension
from lesion_exp.sweep.search.search import Search


@dataclass
class Adaptive:
    """Asks the search for cells, freezes each before it starts, and tells the search what it came to."""

    sweep: Sweep
    search: Search
    maker: CellMaker
    heard: dict[int, int] = field(default_factory=dict)
    """Epochs that the search has heard of, by cell."""

    @classmethod
    def of(cls, sweep: Sweep) -> Self | None:
        """That of a sweep whose search asks for cells one after another; None for other sweeps."""
        if not sweep.facts.space:
            return None
        search = make_search(dict(sweep.facts.search))
        folders, root = sweep.conf_folders(), Path(sweep.facts.store["paths"]["root"])
        maker = CellMaker(sweep.facts.fixed, folders[1:], root, folders[0])
        dimensions = [Dimension(**{**body, "values": tuple(body["values"])}) for body in sweep.facts.space]
        search.begin(dimensions, sweep.folder)
        adaptive = cls(sweep, search, maker)
        for cell in sweep.cells():
            adaptive.tell(cell)
        return adaptive

    def next_cell(self) -> Cell | None:
        """A further cell, frozen; None when the search has enough."""
        asked = self.search.ask()
        if asked is None:
            return None
        trial, suggestion = asked
        job = self.maker.freeze(suggestion)
        check_cell(job, suggestion)
        return self.sweep.add(job, suggestion, trial)

    def tell(self, cell: Cell) -> None:
        """Tells the search what a cell that is over came to."""
        state, trial = cell.state(), cell.trial()
        if trial is None or state.status in {"queued", "running"}:
            return
        found = [state.metrics.get(f"best/{name}") for name in self.search.metrics]
        values = (
            None if None in found or state.status != "finished" else [value for value in found if value is not None]
        )
        self.search.tell(trial, values, pruned=state.note == PRUNED)

    def relay_reports(self, cells: Sequence[Cell]) -> None:
        """Passes on what running cells reported, and asks those to stop that are not worth their time."""
        for cell in cells:
            trial = cell.trial()
            for report in cell.epochs()[self.heard.get(cell.number, 0) :]:
                self.heard[cell.number] = self.heard.get(cell.number, 0) + 1
                value = report.get(self.search.metrics[0])
                if trial is not None and value is not None and self.search.should_stop(trial, report["epoch"], value):
                    cell.stop_file.touch()
