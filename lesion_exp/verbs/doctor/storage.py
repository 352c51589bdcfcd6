"""The folders of a project, their disks, its store of runs and the folder of the data set."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from lesion_exp.byte_size import memory_size
from lesion_exp.config.project import Project
from lesion_exp.data.lock import is_held
from lesion_exp.errors import UserError
from lesion_exp.next_command import next_command
from lesion_exp.privacy import without_secrets
from lesion_exp.tracking.run_names import ACTIVE
from lesion_exp.tracking.spool import LOCK_FILE, SPOOL_DIR, read_header
from lesion_exp.tracking.store import Store, embedded_database
from lesion_exp.verbs.doctor.check_result import GIB, CheckResult, note, ok, problem

LEAST_FREE: Final = 2 * GIB
"""Checkpoints of a large network and the store of ten thousand images."""
WRITTEN: Final = 64 * 2**20
"""Bytes of the trial file."""
SLOW: Final = 30.0
"""MB/s below which checkpoints and the image store hold up a run."""
_NETWORK_DISKS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "fuse.sshfs", "ceph", "glusterfs"}
)
_MOUNTS: Final = Path("/proc/mounts")


def storage(project: Project) -> Iterator[CheckResult]:
    """Findings about the folders of `project` and its store of runs."""
    folders = {"project": project.root, "image store": project.data_cache, "checkpoints": project.live}
    seen: dict[int, str] = {}
    for name, folder in folders.items():
        place = existing(folder)
        if seen.setdefault(place.stat().st_dev, name) == name:  # once a disk
            yield disk(name, place)
    yield from store(project)
    yield from unsent(project.live)


def disk(name: str, folder: Path) -> CheckResult:
    """Checks the free space and the write speed of the disk of `folder`, which has to exist."""
    free, kind = shutil.disk_usage(folder).free, file_system(folder)
    where = f"{memory_size(free)} free in {folder}" + (f" ({kind})" if kind in _NETWORK_DISKS else "")
    if free < WRITTEN:
        return problem(f"disk of the {name}", where, "free some space, or set another folder: paths.root=FOLDER")
    try:
        speed = write_speed(folder)
    except OSError as error:
        return problem(
            f"disk of the {name}",
            f"{folder} cannot be written: {error.strerror}",
            "set a folder of yours: paths.root=FOLDER",
        )
    text = f"{where}, written at {speed:,.0f} MB/s"
    if free < LEAST_FREE:
        return note(f"disk of the {name}", text, "free some space: checkpoints and the image store may fill it")
    if speed < SLOW:
        return note(
            f"disk of the {name}",
            text,
            "put image store and checkpoints on a faster disk: paths.data_cache=, paths.live=",
        )
    return ok(f"disk of the {name}", text)


def write_speed(folder: Path, num_bytes: int = WRITTEN) -> float:
    """MB/s at which a file is written below `folder` and has reached the disk; it is removed."""
    content = os.urandom(2**20)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor_") as file:
        began = time.perf_counter()
        for _ in range(max(1, num_bytes // len(content))):
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
        return num_bytes / 1e6 / (time.perf_counter() - began)


def store(project: Project) -> Iterator[CheckResult]:
    """Whether the store of runs can be opened, its version, its size and whether a process holds it.

    A store that does not exist yet is not made.
    """
    try:
        planned = embedded_database(project.store_uri, project.root)
        if planned is not None and not planned.exists():
            yield _of_sqlite(planned, f"none yet; the first run makes {planned}", is_locked=False)
            return
        opened: Store = project.store
    except UserError as error:
        yield problem(
            "store of runs", without_secrets(str(error)), "see the message; tracking.uri= names another store"
        )
        return
    address = without_secrets(opened.uri)
    if opened.database is None:
        yield ok("store of runs", f"{address} answers, {len(opened.experiment_ids())} experiments")
        return
    database = opened.database
    trainings, revision, is_locked = _facts(database)
    text = f"{database}, {trainings:,} trainings, {memory_size(database.stat().st_size)}, version {revision}"
    yield _of_sqlite(database, text, is_locked=is_locked)


def _of_sqlite(database: Path, text: str, *, is_locked: bool) -> CheckResult:
    if is_locked:
        return note(
            "store of runs", f"{text}, locked by another process", "wait until its migration or its writing ends"
        )
    kind = file_system(existing(database.parent))
    if kind in _NETWORK_DISKS:
        return note(
            "store of runs",
            f"{text}, on a network disk ({kind})",
            "SQLite's locks may fail there when several machines write: use an MLflow server, tracking.uri=http://HOST:5000",
        )
    return ok("store of runs", text)


def _facts(database: Path) -> tuple[int, str, bool]:
    """Number of runs that train, version of the schema, and whether another process holds the database locked."""
    from lesion_exp.tracking.stored_run import TRAINING_KINDS

    train = f"run_uuid IN (SELECT run_uuid FROM tags WHERE key = 'kind' AND value IN {TRAINING_KINDS})"
    uri = f"{database.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=2, isolation_level=None)) as connection:
        is_locked = bool(is_held(database.with_name(f"{database.name}.lock")))
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            is_locked = True
        (trainings,) = connection.execute(f"SELECT count(*) FROM {ACTIVE} AND {train}").fetchone()
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return int(trainings), str(revision), is_locked


def unsent(live: Path) -> Iterator[CheckResult]:
    """Runs that have ended here and of which something has not reached the store."""
    waiting = [
        folder.parent.name
        for folder in sorted(live.glob(f"*/{SPOOL_DIR}"))
        if read_header(folder) is not None and not is_held(folder.with_name(LOCK_FILE))
    ]
    if waiting:
        text = f"results of {len(waiting)} ended runs are not in the store yet: {', '.join(waiting[:3])}"
        yield note("unsent results", text, f"{next_command('sync')} sends them")


def data_set(config: Mapping[str, Any]) -> Iterator[CheckResult]:
    """Whether the table of the data set of `config` can be read, and which of its images are missing."""
    from lesion_exp.dataset.loading import Flow
    from lesion_exp.training.data import pseudo_labels_of, read_table  # which imports torch

    node = config["dataset"]
    root = node.get("root")
    if root in (None, "???"):
        return
    try:
        flow = Flow()
        table = read_table(config, flow, pseudo_labels_of(config))
    except UserError as error:
        yield problem("data set", str(error), f"dataset.root={root} has to be the folder that docs/datasets describes")
        return
    warned = [found.text for found in flow.findings if found.level == "warning"]
    text = f"{node['name']} in {root}: {len(table):,} images, {table['label'].nunique()} classes"
    if warned:
        prepare = next_command("prepare", f"dataset={node['name']}", f"dataset.root={root}")
        yield note("data set", f"{text}; {'; '.join(warned)}", f"{prepare} shows the cases")
    else:
        yield ok("data set", text)


def existing(folder: Path) -> Path:
    """`folder`, or the nearest folder above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def file_system(folder: Path, mounts: Path = _MOUNTS) -> str:
    """Returns the kind of the file system of `folder`, such as `ext4` or `nfs4`; empty where it is not known."""
    try:
        lines = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return ""
    place = folder.resolve()
    fitting = [
        (len(parts[1]), parts[2]) for parts in lines if len(parts) > 2 and place.is_relative_to(_unescaped(parts[1]))
    ]
    return max(fitting, default=(0, ""))[1]


def _unescaped(path: str) -> str:
    return path.replace(r"\040", " ").replace(r"\011", "\t")
