"""A cell of a sweep: a folder with its frozen job, its state and its log."""

from __future__ import annotations

import builtins
import hashlib
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
from lesion_exp.training.run_context import REPORTS_FILE, RUN_FILE, STOP_FILE

Status = Literal["queued", "running", "finished", "failed", "cancelled"]
STATUSES: Final = ("finished", "running", "queued", "failed", "cancelled")
UNFINISHED: Final = frozenset({"queued", "running"})
"""The statuses of a cell that has not ended."""
SILENT_SECONDS: Final = 120.0
"""A running cell on another machine that has not touched its state for so long is considered dead."""
PASSING_ERRORS: Final = frozenset(
    name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, OSError)
) | {"MlflowException", "OperationalError", "ConnectionError", "TimeoutExpired"}
"""Names of errors with a temporary cause in the machine or the network."""
_LOG_LINES: Final = 15
CELL_TAG: Final = "sweep_cell"
"""The tag with the number of the cell that a run belongs to."""
STARTER: Final = "starter"
"""Stands in the place of the id of a cell's parent process, which is one that starts several and is not known yet."""
STOPPED: Final = "stopped"
PRUNED: Final = "pruned"


@dataclass(frozen=True)
class CellState:
    """The state of a cell, the content of `state.json`."""

    status: Status = "queued"
    attempts: int = 0
    host: str | None = None
    pid: int | None = None
    started: float | None = None
    """Start of the last attempt, seconds since 1970."""
    ended: float | None = None
    run_id: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    """`best/val/...` of the finished run, and `test/...` where the test part was read."""
    error: str | None = None
    note: str | None = None
    """`stopped` after an attempt that was interrupted, `pruned`, or why the cell was not trained."""


@dataclass(frozen=True)
class Cell:
    """A cell, identified by its folder; every method reads the disk."""

    folder: Path

    @property
    def number(self) -> int:
        """The number of the cell in its sweep, from 0."""
        return int(self.folder.name)

    @property
    def job_file(self) -> Path:
        """The file with the frozen job."""
        return self.folder / "job.yaml"

    @property
    def log(self) -> Path:
        """The output of its processes, of all attempts."""
        return self.folder / "log.txt"

    @property
    def lock(self) -> Path:
        """The lock that the process which runs the cell holds."""
        return self.folder / "lock"

    @property
    def reports(self) -> Path:
        """The file with a line of JSON for each validation: `epoch`, `max_epochs` and the metrics."""
        return self.folder / REPORTS_FILE

    @property
    def stop_file(self) -> Path:
        """The file that ends training after the current epoch; the run then counts as finished and as pruned."""
        return self.folder / STOP_FILE

    def create(self, job: Job, overrides: tuple[str, ...], trial: int | None = None) -> None:
        """Writes the frozen job and the overrides that distinguish the cell from the others of the sweep.

        `trial` is the number of the cell in an adaptive search.
        """
        self.folder.mkdir(parents=True)
        job.write(self.job_file)
        facts = {
            "overrides": list(overrides),
            "job_hash": job.job_hash,
            "trial": trial,
            "data": data_digest(job.config),
        }
        write_json(self.folder / "cell.json", facts)

    def job(self) -> Job:
        """Returns the frozen job."""
        return read_job(self.job_file)

    def facts(self) -> tuple[tuple[str, ...], str]:
        """Returns the cell's own overrides and its job's hash."""
        body = self._body()
        return tuple(body["overrides"]), str(body["job_hash"])

    def trial(self) -> int | None:
        """Returns the number of the cell in an adaptive search; None in other searches."""
        number: int | None = self._body()["trial"]
        return number

    def data_key(self) -> str:
        """Returns the `data_digest` of the job, which cells on the same data share.

        A cell of an earlier version does not record it, so that its job is read.
        """
        return self._data_of(self._body())

    def work_key(self) -> str:
        """Returns the `work_key` of the job, which cells share of which one run would do for all."""
        body = self._body()
        return f"{body['job_hash']} {self._data_of(body)}"

    def _data_of(self, body: Mapping[str, Any]) -> str:
        known = body.get("data")
        return data_digest(self.job().config) if known is None else str(known)

    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads((self.folder / "cell.json").read_text(encoding="utf-8"))
        return body

    def state(self) -> CellState:
        """Returns the current state; a cell whose process has died is queued again, with the note `stopped`."""
        state = self.recorded()
        if state.status == "running" and not self._is_alive(state):
            return replace(state, status="queued", note=STOPPED, ended=self._last_touch())
        return state

    def recorded(self) -> CellState:
        """Returns the state that a process wrote last."""
        try:
            body = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return CellState()
        return CellState(**body)

    def write(self, **changes: Any) -> CellState:
        """Changes fields of the state in one atomic step, and returns the state."""
        state = replace(self.recorded(), **changes)
        write_json(self.folder / "state.json", asdict(state))
        return state

    def engine_id(self) -> str | None:
        """Returns the id of the cell's job in the launcher's engine, such as a SLURM job id.

        Returns None before the job is submitted.

        It is not part of the state, which the process of the cell may write at the same time.
        """
        path = self.folder / "ticket"
        return path.read_text(encoding="utf-8") if path.exists() else None

    def record_engine_id(self, engine_id: str | None) -> None:
        """Records the id of the cell's job in the launcher's engine; None removes it."""
        path = self.folder / "ticket"
        if engine_id is None:
            path.unlink(missing_ok=True)
            return
        waiting = path.with_name(".ticket")
        waiting.write_text(engine_id, encoding="utf-8")
        waiting.replace(path)

    def begun_run(self) -> str | None:
        """Returns the id of the run that the cell began last, also while it trains; None before it has begun one."""
        try:
            return (self.folder / RUN_FILE).read_text(encoding="utf-8") or None
        except FileNotFoundError:
            return None

    def touch(self) -> None:
        """Renews the heartbeat of the cell, the time of its state file."""
        os.utime(self.folder / "state.json")

    def epochs(self) -> list[dict[str, Any]]:
        """Returns the reports of the epochs so far, each of the last attempt that trained it.

        Incomplete lines are skipped.
        """
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

    def end_of_log(self) -> str:
        """Returns the last lines of the output of its processes."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 20_000))
            text = file.read().decode("utf-8", errors="replace")
        return "\n".join(text.splitlines()[-_LOG_LINES:])

    def _is_alive(self, state: CellState) -> bool:
        if state.host == os.uname().nodename:
            return bool(is_held(self.lock))
        return time.time() - self._last_touch() < SILENT_SECONDS

    def _last_touch(self) -> float:
        return (self.folder / "state.json").stat().st_mtime


def data_digest(config: Mapping[str, Any]) -> str:
    """Returns a digest (16 digits) of everything in the `config` of a job that determines which data it reads."""
    nodes = [config[node] for node in ("dataset", "task", "image_size")] + [config["split"].get("path")]
    return hashlib.sha256(json.dumps(nodes).encode()).hexdigest()[:16]


def work_key(job: Job) -> str:
    """Returns the hash of a job with the digest of its data: a job in another folder of data is other work.

    The hash leaves out where the data lie, since a job may be moved to another machine. Within a sweep each folder is a
    choice.
    """
    return f"{job.job_hash} {data_digest(job.config)}"


def will_repeat(state: CellState) -> bool:
    """Returns whether a cell has failed for a reason in its job, so that the same job would fail again.

    A full disk, or a server or file system that does not respond, is not such a reason.
    """
    kind = (state.error or "").partition(":")[0].strip()
    return state.status == "failed" and kind not in PASSING_ERRORS


def write_json(path: Path, body: Any) -> None:
    """Writes JSON without secrets atomically: under a temporary name, flushed to the disk, and renamed."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(redacted(body), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).chmod(0o644)
    Path(temporary).replace(path)
