"""One cell of a sweep: a folder with its frozen job, how it stands, and its log."""

from __future__ import annotations

import builtins
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from lesion_exp.config.freeze import Job, read_job
from lesion_exp.data.lock import is_held
from lesion_exp.privacy import redacted
from lesion_exp.training.run_context import REPORTS_FILE, STOP_FILE

Status = Literal["queued", "running", "finished", "failed", "cancelled"]
STATUSES: Final = ("finished", "running", "queued", "failed", "cancelled")
SILENT_SECONDS: Final = 120.0
"""A running cell on another machine that has not touched its state for so long is taken for dead."""
PASSING_ERRORS: Final = frozenset(
    name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, OSError)
) | {"MlflowException", "OperationalError", "ConnectionError", "TimeoutExpired"}
"""Names of errors whose reason lies in the machine or the network of the moment."""
STOPPED: Final = "stopped"
PRUNED: Final = "pruned"


@dataclass(frozen=True)
class CellState:
    """How a cell stands; what `state.json` holds."""

    status: Status = "queued"
    attempts: int = 0
    host: str | None = None
    pid: int | None = None
    started: float | None = None
    """Seconds since 1970, of the last attempt."""
    ended: float | None = None
    run_id: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    """`best/val/...` of the finished run, and `test/...` where the test part was read."""
    error: str | None = None
    note: str | None = None
    """`stopped` after an attempt that did not come to its end, `pruned`, `done before in run ...`."""


@dataclass(frozen=True)
class Cell:
    """A cell, by its folder; every read looks at the disk."""

    folder: Path

    @property
    def number(self) -> int:
        """Its place in the sweep, from 0."""
        return int(self.folder.name)

    @property
    def log(self) -> Path:
        """What its processes printed, all attempts."""
        return self.folder / "log.txt"

    @property
    def lock(self) -> Path:
        """Held by the process that runs it."""
        return self.folder / "lock"

    @property
    def reports(self) -> Path:
        """A line of JSON for each epoch: `epoch`, `max_epochs` and the metrics of validation."""
        return self.folder / REPORTS_FILE

    @property
    def stop_file(self) -> Path:
        """Where it exists, training ends after the epoch; the run counts as finished, and as pruned."""
        return self.folder / STOP_FILE

    def create(self, job: Job, overrides: tuple[str, ...], trial: int | None = None) -> None:
        """Writes the frozen job and the overrides that make the cell differ from its siblings.

        `trial` is what a search that learns from results calls the cell.
        """
        self.folder.mkdir(parents=True)
        job.write(self.folder / "job.yaml")
        write_json(self.folder / "cell.json", {"overrides": list(overrides), "job_hash": job.job_hash, "trial": trial})

    def job(self) -> Job:
        """The frozen job."""
        return read_job(self.folder / "job.yaml")

    def facts(self) -> tuple[tuple[str, ...], str]:
        """The cell's own overrides and its job's hash."""
        body = self._body()
        return tuple(body["overrides"]), str(body["job_hash"])

    def trial(self) -> int | None:
        """What a search that learns from results calls it."""
        number: int | None = self._body()["trial"]
        return number

    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads((self.folder / "cell.json").read_text(encoding="utf-8"))
        return body

    def state(self) -> CellState:
        """How it stands now; a cell whose process is gone without a word is queued again, with the note `stopped`."""
        state = self.recorded()
        if state.status == "running" and not self._is_alive(state):
            return replace(state, status="queued", note=STOPPED, ended=self._last_touch())
        return state

    def recorded(self) -> CellState:
        """How it stood when a process last wrote it down."""
        try:
            body = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return CellState()
        return CellState(**body)

    def write(self, **changes: Any) -> CellState:
        """Changes fields of the state; whole or not at all."""
        state = replace(self.recorded(), **changes)
        write_json(self.folder / "state.json", asdict(state))
        return state

    def engine_id(self) -> str | None:
        """What the launcher's engine calls the cell's work, such as a SLURM job id; None before it has any.

        It is no part of the state: the cell's process may write that while whoever submitted it writes this.
        """
        path = self.folder / "ticket"
        return path.read_text(encoding="utf-8") if path.exists() else None

    def record_engine_id(self, engine_id: str | None) -> None:
        """Writes down what the engine calls the cell's work; None forgets it."""
        path = self.folder / "ticket"
        if engine_id is None:
            path.unlink(missing_ok=True)
            return
        waiting = path.with_name(".ticket")
        waiting.write_text(engine_id, encoding="utf-8")
        waiting.replace(path)

    def touch(self) -> None:
        """Gives a sign of life."""
        os.utime(self.folder / "state.json")

    def epochs(self) -> list[dict[str, Any]]:
        """The reports of the epochs so far, of the last attempt that trained each; a torn last line is left out."""
        if not self.reports.exists():
            return []
        found: dict[int, dict[str, Any]] = {}
        for line in self.reports.read_text(encoding="utf-8").splitlines():
            try:
                report = json.loads(line)
            except json.JSONDecodeError:
                continue
            found = {epoch: known for epoch, known in found.items() if epoch < report["epoch"]}
            found[report["epoch"]] = report
        return list(found.values())

    def end_of_log(self, lines: int = 15) -> str:
        """The last lines that its processes printed."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 20_000))
            text = file.read().decode("utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _is_alive(self, state: CellState) -> bool:
        if state.host == os.uname().nodename:
            return bool(is_held(self.lock))
        return time.time() - self._last_touch() < SILENT_SECONDS

    def _last_touch(self) -> float:
        return (self.folder / "state.json").stat().st_mtime


def will_repeat(state: CellState) -> bool:
    """Whether a cell has failed for a reason that lies in its job, so that the same job would fail again.

    A disk that is full, or a server or file system that does not answer, is no such reason.
    """
    kind = (state.error or "").partition(":")[0].strip()
    return state.status == "failed" and kind not in PASSING_ERRORS


def write_json(path: Path, body: Any) -> None:
    """Writes JSON, without secrets, under another name, brings it to the disk and renames it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(redacted(body), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).chmod(0o644)
    Path(temporary).replace(path)
