"""Lists what a project keeps on its disk, and removes what may go: caches, checkpoints of finished runs, sweeps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from lesion_exp.choices import CLEANED
from lesion_exp.config.project import Project
from lesion_exp.data.lock import is_held
from lesion_exp.sweeps.ledger import sweeps_in
from lesion_exp.tracking.spool import SPOOL_DIR
from lesion_exp.tracking.store import Store
from lesion_exp.training.frozen_features import FOLDER as FEATURES
from lesion_exp.training.teacher import FOLDER as TEACHERS

CACHES, LIVE, SWEEPS = CLEANED
_ACTIVE: Final = frozenset({"queued", "running"})
_CACHED: Final = {FEATURES: "features of frozen networks", TEACHERS: "predictions of teachers"}


@dataclass(frozen=True)
class Entry:
    """A file or folder of a project."""

    path: str
    what: str
    bytes: int
    word: str | None
    """The word of `CLEANED` that removes it; None if it stays."""
    why: str
    """What its removal costs, or why it stays."""
    removed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def clean(project: Project, remove: Collection[str] = ()) -> list[Entry]:
    """Returns what lies in the folders of `project`, and removes the entries whose word is in `remove`.

    Whatever a run that has not finished needs stays, and so does what waits to be sent to a server. Caches stay while
    any run of the store, or any sweep of the project, is running.

    Raises:
        ConfigError: the store, which knows which runs have finished, cannot be opened.
        OSError: an entry cannot be removed.
    """
    store = project.store
    busy = _busy(store, project)
    found = [*_caches(project, busy), *_live(store), *_sweeps(project), *_kept(project)]
    return [_removed(entry) if entry.word in remove else entry for entry in found]


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files below a folder; a link counts as itself, a vanished file as none."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            total += _bytes(Path(folder) / name)
    return total if path.is_dir() else _bytes(path)


def in_words(num_bytes: int) -> str:
    """A number of bytes, such as `12.3 MB`."""
    size, units = num_bytes / 1, ("B", "kB", "MB", "GB", "TB")
    for unit in units[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {units[-1]}"


def _bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _busy(store: Store, project: Project) -> str | None:
    """A run or a sweep that is running; None if nothing is."""
    experiments = store.experiment_ids()
    running = list(store.client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=1)) if (
        experiments) else []  # fmt: skip
    if running:
        return f"run {running[0].info.run_id[:8]}"
    return next((f"sweep {sweep.folder.name}" for sweep in sweeps_in(project.sweeps) if is_held(sweep.lock)), None)


def _caches(project: Project, busy: str | None) -> Iterator[Entry]:
    for path in _children(project.data_cache):
        if path.suffix == ".lock":
            continue
        what = _CACHED.get(path.name, "generated images" if path.name == "synthetic" else "prepared images")
        why = "made again by the run that needs it" if busy is None else f"{busy} is running and may read it"
        yield Entry(str(path), what, size_of(path), CACHES if busy is None else None, why)


def _live(store: Store) -> Iterator[Entry]:
    for path in _children(store.live):
        if not path.is_dir():
            continue
        word, why = _state_of(store, path)
        yield Entry(str(path), "checkpoints of a run", size_of(path), word, why)


def _state_of(store: Store, folder: Path) -> tuple[str | None, str]:
    from mlflow.exceptions import MlflowException

    if (folder / SPOOL_DIR).exists():
        return None, "results that wait for their server: lesion-exp sync sends them"
    try:
        info = store.client.get_run(folder.name).info
    except MlflowException:
        return None, "no run of this store; its own store may need it"
    if info.lifecycle_stage == "deleted":
        return LIVE, "its run was deleted from the store"
    if info.status == "FINISHED":
        return LIVE, "its run has finished; the checkpoints are in the store"
    if info.status == "RUNNING":
        return None, "its run is running"
    return None, f"its run is {info.status}: lesion-exp resume run={folder.name[:8]} needs it"


def _sweeps(project: Project) -> Iterator[Entry]:
    for sweep in sweeps_in(project.sweeps):
        left = [cell for cell in sweep.cells() if cell.state().status in _ACTIVE]
        is_running = is_held(sweep.lock)
        if is_running or left:
            state = "it is running" if is_running else f"{len(left)} cells are left: lesion-exp sweep resume needs it"
            yield Entry(str(sweep.folder), "ledger of a sweep", size_of(sweep.folder), None, state)
        else:
            why = "sweep status, retry and report will not know it; its runs stay in the store"
            yield Entry(str(sweep.folder), "ledger of a sweep", size_of(sweep.folder), SWEEPS, why)


def _kept(project: Project) -> Iterator[Entry]:
    """What no word removes: the store, and job files."""
    store = project.root / "mlruns"
    if store.is_dir():
        num_bytes = size_of(store) - (size_of(project.live) if project.live.is_relative_to(store) else 0)
        yield Entry(str(store), "the store of runs", num_bytes, None, "results; delete runs on MLflow's page")
    if project.jobs.is_dir():
        yield Entry(str(project.jobs), "job files", size_of(project.jobs), None, "yours")


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _removed(entry: Entry) -> Entry:
    """Removes an entry; it gets another name first, so that no process meets half of it."""
    path = Path(entry.path)
    gone = path.with_name(f".removed-{os.getpid()}-{path.name}")
    path.rename(gone)
    if gone.is_dir():
        shutil.rmtree(gone)
    else:
        gone.unlink()
    return Entry(**{**asdict(entry), "removed": True})
