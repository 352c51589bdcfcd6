"""How a run stands to other runs: the sweep it belongs to, the run that it continues or repeats."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

REPORTS_FILE: Final = "reports.jsonl"
STOP_FILE: Final = "stop"
"""In the folder of `RunContext.reports`."""


@dataclass(frozen=True)
class RunContext:
    """What whoever starts a job adds to its run; nothing of it changes a result, so no job holds it."""

    tags: Mapping[str, str] = field(default_factory=dict)
    """Further tags, such as `mlflow.parentRunId` and `sweep_id`."""
    params: Mapping[str, str] = field(default_factory=dict)
    """Further parameters, where the job has none of the same name: what a cell of a sweep sets."""
    name: str | None = None
    """The run's name; by default it is made from the job's choices."""
    continues: str | None = None
    """The id of a run of the same job that stopped before its end; it goes on as the same run."""
    checkpoint: str | None = None
    """The file that the run goes on from; None begins at the first step."""
    best: str | None = None
    """The checkpoint of the best epoch of the run whose `checkpoint` a new run goes on from."""
    reports: str | None = None
    """A folder in which training leaves a report after each epoch and looks whether it is asked to stop."""

    def write(self, path: Path) -> None:
        """Writes the link for another process."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> RunContext:
        """The link that `write` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


NO_CONTEXT: Final = RunContext()
"""A run that stands alone."""
