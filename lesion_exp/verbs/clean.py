"""Lists what a project keeps on its disk, and removes what may go: caches, checkpoints of deleted runs, sweeps."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from lesion_exp.byte_size import file_size
from lesion_exp.choices import CLEANED
from lesion_exp.config.project import Project
from lesion_exp.data.cache_names import FEATURES, PREVIEWS, SYNTHETIC, TEACHERS, is_lock, is_made_here, lock_of
from lesion_exp.data.lock import file_lock, hold, is_held, release
from lesion_exp.errors import ConfigError, UserError, first_cases
from lesion_exp.next_command import next_command
from lesion_exp.sweeps.ledger import read_sweep
from lesion_exp.tracking.spool import LOCK_FILE, SPOOL_DIR
from lesion_exp.tracking.store import Store

CACHES, LIVE, SWEEPS = CLEANED
_MADE_IN: Final = {
    FEATURES: "features of a frozen network",
    TEACHERS: "predictions of a teacher",
    SYNTHETIC: "generated images",
}
_RUN: Final = re.compile(r"[0-9a-f]{32}")
_LEFTOVER: Final = re.compile(r"\.removed-\d+-(.+)")
_DRAWING_SECONDS: Final = 3600.0
"""Images that are being generated have no lock; they count as left behind if none was added for this long."""
_TAKEN: Final = "another process makes or reads it"
_INTERRUPTED: Final = "an earlier removal of it was interrupted"
_FOREIGN: Final = "not made by this software"


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

    Only entries with a name that this software gives can be removed, and none that another process is making, so far as
    its lock can be tested here. Whatever a run or a sweep that has not finished needs stays, and so does what waits to
    be sent to a server. Caches stay while a run of the store, or a sweep of the project, is running. All of this is
    asked again just before an entry is removed.

    Without `remove`, nothing is removed here. Opening the store, however, does what it does for every verb: it marks
    runs whose process is gone as KILLED, and removes live folders of finished runs that no process holds.

    Raises:
        ConfigError: the store, which knows which runs have finished, cannot be opened; or an entry cannot be removed.
        OSError: a folder cannot be listed.
    """
    store = project.store
    found = [*_caches(project, _busy(project)), *_live(store), *_sweeps(project), *_kept(project)]
    entries = list({entry.path: entry for entry in found}.values())
    for place, entry in enumerate(entries):
        if entry.word is not None and entry.word in remove:
            try:
                entries[place] = _removed(entry, project)
            except OSError as error:
                raise ConfigError(_stopped(error, [entry for entry in entries if entry.removed])) from error
    return entries


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files below a folder; a link counts as itself, a vanished file as none."""
    if path.is_symlink() or not path.is_dir():
        return _bytes(path)
    return sum(_bytes(Path(folder) / name) for folder, _, names in os.walk(path) for name in names)


def _bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _busy(project: Project) -> str | None:
    """Why all caches stay: a run or a sweep is running; None if neither is."""
    store = project.store
    experiments = store.experiment_ids()
    running = list(store.client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=1)) if (
        experiments) else []  # fmt: skip
    if running:
        return f"run {running[0].info.run_id[:8]} is running and may read it"
    held = next((lock for lock in sorted(project.sweeps.glob("[0-9]*/lock")) if is_held(lock)), None)
    return None if held is None else f"sweep {held.parent.name} is running and may read it"


def _caches(project: Project, busy: str | None) -> Iterator[Entry]:
    cache = project.data_cache
    own = _own_folders(project)
    for path in _children(cache):
        if path.name == PREVIEWS:
            yield Entry(str(path), "pictures of preview", size_of(path), None, "results; nothing makes them again")
        elif path.name in _MADE_IN and path.is_dir() and not path.is_symlink():
            for child in _children(path):
                yield from _cache(child, _MADE_IN[path.name], cache, own, busy)
        else:
            what = "copies that were found" if path.name.startswith("copies_") else "prepared images"
            yield from _cache(path, what, cache, own, busy)


def _cache(path: Path, what: str, cache: Path, own: list[Path], busy: str | None) -> Iterator[Entry]:
    if is_lock(path):
        return
    size, leftover = size_of(path), _LEFTOVER.fullmatch(path.name)
    if not is_made_here(path.with_name(leftover[1]) if leftover else path, cache) or _contains(path, own):
        yield Entry(str(path), _FOREIGN, size, None, "it is not known what needs it")
    elif leftover:
        yield Entry(str(path), what, size, CACHES, _INTERRUPTED)
    else:
        needed = busy or _use(path)
        why = needed or "made again by the run that needs it"
        yield Entry(str(path), what, size, CACHES if needed is None else None, why)


def _own_folders(project: Project) -> list[Path]:
    """What an entry of the cache must neither be nor contain, resolved."""
    folders = [project.root, project.live, project.jobs, project.sweeps, project.root / "mlruns"]
    database = project.store.database
    return [folder.resolve() for folder in (*folders, *([] if database is None else [database]))]


def _contains(path: Path, folders: list[Path]) -> bool:
    return any(folder.is_relative_to(path.resolve()) for folder in folders)


def _use(path: Path) -> str | None:
    """Why an entry of the cache stays: another process makes it, as far as that can be seen; None if none does."""
    lock = lock_of(path)
    if lock is None:
        is_new = path.name.startswith(".building-") and time.time() - _last_change(path) < _DRAWING_SECONDS
        return "another process may be drawing it: it was changed within the last hour" if is_new else None
    if not lock.exists():
        return None
    with _file_locked(lock) as why:
        return why


@contextmanager
def _file_locked(lock: Path) -> Iterator[str | None]:
    """Holds the lock of an entry of the cache, without waiting; gives the reason why it cannot be held, else None."""
    with ExitStack() as stack:
        why = None
        try:
            stack.enter_context(file_lock(lock, longest_wait=0.0))
        except TimeoutError:
            why = _TAKEN
        except (OSError, ConfigError):
            why = f"whether another process makes it cannot be seen: {lock.name} cannot be locked"
        yield why


def _last_change(folder: Path) -> float:
    times = [0.0]
    for path in (folder, *_children(folder)):
        try:
            times.append(path.lstat().st_mtime)
        except OSError:
            continue
    return max(times)


def _live(store: Store) -> Iterator[Entry]:
    for path in _children(store.live):
        leftover = _LEFTOVER.fullmatch(path.name)
        if leftover and _RUN.fullmatch(leftover[1]):
            yield Entry(str(path), "checkpoints of a run", size_of(path), LIVE, _INTERRUPTED)
        elif path.is_dir() and not _RUN.fullmatch(path.name):
            yield Entry(str(path), _FOREIGN, size_of(path), None, "it is not known what needs it")
        elif path.is_dir():
            held = is_held(path / LOCK_FILE)
            taken = (None, "a process works on its run, or sends its results")
            word, why = taken if held else _state_of_run(store, path)
            yield Entry(str(path), "checkpoints of a run", size_of(path), word, why)


def _state_of_run(store: Store, folder: Path) -> tuple[str | None, str]:
    """The word that removes a live folder that no process here holds, and why; None instead of a word if it stays."""
    from mlflow.exceptions import MlflowException

    waits = (folder / SPOOL_DIR).exists()
    try:
        info = store.client.get_run(folder.name).info
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            return None, "the store does not say whether its run has finished"
        return None, "no run of this store; its own store may need it"
    if info.status == "RUNNING" and info.lifecycle_stage != "deleted":
        return None, "its run is running"
    if waits:
        return None, f"results that wait for their server: {next_command('sync')} sends them"
    if info.lifecycle_stage == "deleted":
        return LIVE, "its run was deleted from the store"
    if info.status == "FINISHED":  # only just: opening the store has removed the folders of runs that had finished
        return LIVE, "its run has finished; the checkpoints are in the store"
    return None, f"its run is {info.status}: {next_command('resume', f'run={folder.name[:8]}')} needs it"


def _sweeps(project: Project) -> Iterator[Entry]:
    for path in _children(project.sweeps):
        leftover = _LEFTOVER.fullmatch(path.name)
        if leftover and leftover[1][0].isdigit():
            yield Entry(str(path), "ledger of a sweep", size_of(path), SWEEPS, _INTERRUPTED)
        elif path.name[0].isdigit() and (path / "sweep.json").exists():
            word, why = (None, "it is running") if is_held(path / "lock") else _state_of_sweep(path)
            yield Entry(str(path), "ledger of a sweep", size_of(path), word, why)


def _state_of_sweep(folder: Path) -> tuple[str | None, str]:
    """The word that removes the ledger of a sweep that no process here drives, and why; None if it stays."""
    from lesion_exp.sweeps.summary import digest, summarize  # pandas, which a project without sweeps does not need

    try:
        summary = summarize(read_sweep(folder))
        counts = summary.counts()
    except (UserError, OSError, ValueError, KeyError, TypeError) as error:
        return None, f"its ledger cannot be read: {str(error).partition(chr(10))[0]}"
    if left := counts.get("queued", 0) + counts.get("running", 0):
        num_left = "1 cell is left" if left == 1 else f"{left} cells are left"
        return None, f"{num_left}: {next_command('sweep', 'resume', folder.name)} needs it"
    if summary.sweep.facts.parent_run_id is not None and summary.sweep.conclusion() != digest(summary):
        return None, f"its run is not finished yet: {next_command('sweep', 'status', folder.name)} finishes it"
    return SWEEPS, (
        "sweep status, resume and retry and leakage sweep= will not know it, and latest will mean another sweep; its "
        "runs stay in the store, from which report and table read it"
    )


def _kept(project: Project) -> Iterator[Entry]:
    """What no word removes: the store, and job files."""
    store = project.root / "mlruns"
    if store.is_dir():
        num_bytes = size_of(store) - (size_of(project.live) if project.live.is_relative_to(store) else 0)
        yield Entry(str(store), "the store of runs", num_bytes, None, "results; delete runs on MLflow's page")
    if project.jobs.is_dir():
        yield Entry(str(project.jobs), "job files", size_of(project.jobs), None, "yours")


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _removed(entry: Entry, project: Project) -> Entry:
    """Removes an entry, unless it is needed by now; returns what became of it."""
    path = Path(entry.path)
    with _held(entry, project) as needed:
        if needed is not None:
            return replace(entry, word=None, why=needed)
        if not os.path.lexists(path):
            return replace(entry, word=None, why="it vanished meanwhile")
        _remove(path)
    return replace(entry, removed=True)


@contextmanager
def _held(entry: Entry, project: Project) -> Iterator[str | None]:
    """Holds the lock of whoever makes or uses an entry, and gives the reason why the entry stays now, else None."""
    path = Path(entry.path)
    if _LEFTOVER.fullmatch(path.name):
        yield None
    elif entry.word == CACHES:
        lock = lock_of(path)
        if lock is None:
            yield _busy(project) or _use(path)
            return
        with _file_locked(lock) as why:
            yield why or _busy(project)
    else:
        with _run_locked(path) as why:
            asked: Callable[[], tuple[str | None, str]] = (
                (lambda: _state_of_run(project.store, path)) if entry.word == LIVE else (lambda: _state_of_sweep(path))
            )
            word, reason = (None, why) if why else asked()
            yield None if word else reason


@contextmanager
def _run_locked(folder: Path) -> Iterator[str | None]:
    """Holds the lock in a live folder or in a ledger, and gives the reason why it cannot be held, else None.

    A link is not followed: only the link itself goes, so that nothing is locked.
    """
    lock = folder / LOCK_FILE  # of a sweep as well, see `Sweep.lock`
    if folder.is_symlink() or not folder.exists():
        yield None
    elif not hold(lock):
        yield "another process works on it"
    else:
        try:
            yield None
        finally:
            release(lock)


def _remove(path: Path) -> None:
    """Removes an entry; a folder gets another name first, so that no process meets half of it. Links are unlinked."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    gone = path
    if not _LEFTOVER.fullmatch(path.name):
        gone = path.with_name(f".removed-{os.getpid()}-{path.name}")
        _remove_tree(gone)  # left by an earlier process of the same number
        path.rename(gone)
    _remove_tree(gone)


def _remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, onerror=_unless_vanished)


def _unless_vanished(_: object, __: str, raised: Any) -> None:
    if not isinstance(raised[1], FileNotFoundError):
        raise raised[1]


def _stopped(error: OSError, done: list[Entry]) -> str:
    count = "1 entry" if len(done) == 1 else f"{len(done)} entries"
    before = f"{count}, {file_size(sum(entry.bytes for entry in done))}" if done else "nothing"
    listed = f":\n{first_cases(entry.path for entry in done)}" if done else ""
    return (
        f"expected a file or folder that can be removed, but {error}; look at its rights, and give the command again. "
        f"Removed before it: {before}{listed}"
    )
