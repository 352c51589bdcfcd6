"""Imports the runs of a bundle into a store, each once, even after repeated or interrupted calls."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, TypeVar

from lesion_exp.byte_size import file_size
from lesion_exp.data.lock import file_lock, hold, release
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.tracking.embedded import HEARTBEAT_TAG
from lesion_exp.tracking.find import runs_where
from lesion_exp.tracking.heartbeat import now_text
from lesion_exp.tracking.run_names import ORIGIN_TAG
from lesion_exp.tracking.spool import LOCK_FILE
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import MEMBERS_TAG, PARENT_TAG, Run, members_of
from lesion_exp.verbs.bundle import layout
from lesion_exp.verbs.bundle.contents import Bundle, BundledRun, open_bundle
from lesion_exp.verbs.bundle.request import BundleImport

log = logging.getLogger(__name__)

State = Literal["imported", "completed", "already here"]
Entry = TypeVar("Entry")
_LOCK: Final = "import.lock"
_METRICS_IN_A_BATCH: Final = 1000
_ENTRIES_IN_A_BATCH: Final = 100


@dataclass(frozen=True)
class Imported:
    """The outcome of importing a run."""

    run_id: str
    """Its id in this store."""
    origin_id: str
    name: str
    state: State


def import_bundle(store: Store, path: Path, largest_gib: float = BundleImport.max_gib) -> list[Imported]:
    """Creates the runs of the bundle at `path` in `store`, with new ids and tags with their origin ids.

    A run that the store has already, trained or imported, is not changed; an interrupted import is completed. Links
    between runs (a sweep and its cells) are updated to the new ids.

    Raises:
        DataError: see `open_bundle`; or the store refuses the content of the bundle.
        ConfigError: the disk has not enough space.
    """
    from mlflow.exceptions import MlflowException

    with open_bundle(path, largest_gib) as bundle, file_lock(store.live / _LOCK):
        _check_room(store, bundle)
        try:
            done = [_import(store, bundle, run) for run in bundle.runs]
            for run, made in zip(bundle.runs, done, strict=True):
                _link(store, run, made)
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            raise DataError(
                f"expected runs in {path} that the store accepts, but it says: {error.message}; export them once more"
            ) from error
    return done


def _check_room(store: Store, bundle: Bundle) -> None:
    if store.artifacts is None:  # a server's
        return
    free = shutil.disk_usage(store.live).free
    if bundle.num_bytes > free:
        raise ConfigError(
            f"expected {file_size(bundle.num_bytes)} of free space in {store.artifacts}, got {file_size(free)}; free "
            f"some space, or name another store with tracking.uri="
        )


def _import(store: Store, bundle: Bundle, run: BundledRun) -> Imported:
    name = run.described["name"]
    here = local_run(store, run.origin_id)
    if here is not None and here.status in layout.ENDED and layout.INCOMPLETE_TAG not in here.tags:
        if here.tags.get(layout.CONTENT_TAG, run.content) != run.content:
            log.warning(
                "the store has run %s as %s, from another export; it is not changed", run.origin_id, here.run_id
            )
        return Imported(here.run_id, run.origin_id, name, "already here")
    if here is None:
        _fill_alone(store, bundle, run, run_id := _create(store, run))
        return Imported(run_id, run.origin_id, name, "imported")
    if ORIGIN_TAG not in here.tags:
        raise ConfigError(
            f"expected a run that has ended, but {here.run_id} is {here.status} in this store; wait for its end"
        )
    _fill_alone(store, bundle, run, here.run_id)
    return Imported(here.run_id, run.origin_id, name, "completed")


def local_run(store: Store, origin_id: str) -> Run | None:
    """Returns the run in `store` with that id, or imported with that origin id; None if there is none."""
    for condition in (f"attributes.run_id = '{origin_id}'", f"tags.{ORIGIN_TAG} = '{origin_id}'"):
        if (found := next(runs_where(store, condition), None)) is not None:
            return found
    return None


def _create(store: Store, run: BundledRun) -> str:
    described = run.described
    tags = {
        ORIGIN_TAG: run.origin_id,
        layout.CONTENT_TAG: run.content,
        layout.INCOMPLETE_TAG: "import it again",
        HEARTBEAT_TAG: now_text(),
    }
    experiment = store.experiment_id(described["experiment"])
    created = store.client.create_run(experiment, described["start_time"], tags, described["name"])
    return str(created.info.run_id)


def _fill_alone(store: Store, bundle: Bundle, run: BundledRun, run_id: str) -> None:
    """Fills the run under its lock, which shows other processes that the import is in progress."""
    lock = store.live / run_id / LOCK_FILE
    hold(lock)
    try:
        _fill(store, bundle, run, run_id)
    finally:
        release(lock)
        with suppress(OSError):
            lock.parent.rmdir()


def _fill(store: Store, bundle: Bundle, run: BundledRun, run_id: str) -> None:
    """Writes everything except links; writing it again does not change anything.

    Until the run is complete it has a tag that marks an interrupted import.
    """
    from mlflow.entities import Metric, Param, RunTag

    described, client = run.described, store.client
    client.set_tag(run_id, layout.CONTENT_TAG, run.content)
    for params in _batches((Param(*item) for item in described["params"].items()), _ENTRIES_IN_A_BATCH):
        client.log_batch(run_id, params=params, synchronous=True)
    for tags in _batches((RunTag(*item) for item in described["tags"].items()), _ENTRIES_IN_A_BATCH):
        client.log_batch(run_id, tags=tags, synchronous=True)
    points = (Metric(name, value, timestamp, step) for name, step, timestamp, value in bundle.metrics(run))
    for metrics in _batches(points, _METRICS_IN_A_BATCH):
        client.log_batch(run_id, metrics=metrics, synchronous=True)
    if described["inputs"]:
        client.log_inputs(run_id, datasets=[_input(entry) for entry in described["inputs"]])
    artifact_uri = client.get_run(run_id).info.artifact_uri
    with tempfile.TemporaryDirectory(prefix="lesion_exp_import_") as folder:
        for path in run.artifacts:
            unpacked = Path(folder) / PurePosixPath(path).name
            with bundle.artifact(run, path) as source, unpacked.open("wb") as target:
                shutil.copyfileobj(source, target)
            store.put_artifact(run_id, artifact_uri, unpacked, path)
            unpacked.unlink()
    client.set_terminated(run_id, described["status"], described["end_time"])
    if layout.INCOMPLETE_TAG in client.get_run(run_id).data.tags:
        client.delete_tag(run_id, layout.INCOMPLETE_TAG)


def _input(entry: dict[str, Any]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    texts: dict[str, Any] = {key: entry.get(key) for key in ("schema", "profile")}
    data = Dataset(entry["name"], entry["digest"], entry["source_type"], entry["source"], **texts)
    tags = [InputTag(str(key), str(value)) for key, value in dict(entry.get("tags") or {}).items()]
    return DatasetInput(data, tags)


def _link(store: Store, run: BundledRun, made: Imported) -> None:
    """Sets the run's links, and the members of an ensemble, to the ids of this store; the run has no parent if that is
    not in the store.
    """
    if made.run_id == run.origin_id:
        return
    for tag, origin_id in run.described["links"].items():
        if tag not in layout.LINK_TAGS or not layout.is_run_id(origin_id):
            continue
        other = local_run(store, origin_id)
        if other is None and tag == PARENT_TAG:
            log.warning("run %s has no parent, since %s is not in this store", made.run_id, origin_id)
            continue
        store.client.set_tag(made.run_id, tag, origin_id if other is None else other.run_id)
    if members := run.described["tags"].get(MEMBERS_TAG):
        found = [(name, local_run(store, name) if layout.is_run_id(name) else None) for name in members_of(members)]
        ids = [name if other is None else other.run_id for name, other in found]
        store.client.set_tag(made.run_id, MEMBERS_TAG, ",".join(ids))


def _batches(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    rest = iter(entries)
    while batch := list(islice(rest, size)):
        yield batch
