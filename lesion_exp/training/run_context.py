"""The context of a run, such as the sweep that it belongs to or the run that it continues, and its results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

REPORTS_FILE: Final = "reports.jsonl"
STOP_FILE: Final = "stop"
RUN_FILE: Final = "run_id"
"""Files in the folder `RunContext.pruning_dir`: reports of epochs, the order to stop, and the id of the run."""


@dataclass(frozen=True)
class RunContext:
    """What the caller of a job adds to its run; it does not change results, so it is not part of the job."""

    tags: Mapping[str, str] = field(default_factory=dict)
    """Further tags, such as `mlflow.parentRunId` and `sweep_id`."""
    params: Mapping[str, str] = field(default_factory=dict)
    """Further parameters whose names the job does not use: what a cell of a sweep sets."""
    name: str | None = None
    """The run's name; by default it is made from the job's choices."""
    continues: str | None = None
    """The id of a run of the same job that stopped early and is continued as the same run."""
    checkpoint: str | None = None
    """The checkpoint from which training continues; None begins at the first step."""
    best: str | None = None
    """The checkpoint of the best epoch of the run to which `checkpoint` belongs, if a new run continues it."""
    pruning_dir: str | None = None
    """The folder of a cell, through which its sweep learns the id of the run and prunes it (see `PruningCallback`)."""
    processes: tuple[int, int] | None = None
    """Processes on each machine, and machines, on which a run goes on; None: as many as the job asks for."""
    begun_devices: int | None = None
    """The devices of each machine that the run had when it began; they count where the job says `auto`."""
    found: Mapping[str, str] = field(default_factory=dict)
    """The values `batch_size` and `lr` that Lightning's tuners found before the run stopped."""
    own_code: Mapping[str, str] = field(default_factory=dict)
    """Digests of the files of the user's code in all states, if the run continues the training of another one."""

    def write(self, path: Path) -> None:
        """Writes the context to a file for another process."""
        path.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> RunContext:
        """Reads the context that `write` wrote."""
        return cls.from_json(path.read_text(encoding="utf-8"))

    def to_json(self) -> str:
        """Returns the context as a text for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RunContext:
        """Returns the context of which `to_json` made `text`."""
        values = json.loads(text)
        processes = values.pop("processes", None)
        return cls(**values, processes=None if processes is None else tuple(processes))


NO_CONTEXT: Final = RunContext()
"""The context of a single run."""


@dataclass(frozen=True)
class JobResult:
    """The results of a finished run; without an id on every rank but the first."""

    run_id: str
    metrics: dict[str, float] = field(default_factory=dict)
    """`best/val/...`, and if the test part was evaluated `test/...` and `EvaluationResult.section_results`."""
    live_dir: str = ""
    pruned: bool = False
    """Whether training was asked to end before its last epoch."""
