"""Records a run in MLflow while it is active, with a status that is always true."""

from __future__ import annotations

import getpass
import logging
import shutil
import threading
import time
import traceback
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from lesion_exp.data.lock import check_locks
from lesion_exp.errors import ConfigError
from lesion_exp.next_command import next_command
from lesion_exp.privacy import redacted
from lesion_exp.tracking.embedded import HEARTBEAT_TAG, DatabaseWatch, StoreLostError
from lesion_exp.tracking.environment import MachineLoad
from lesion_exp.tracking.heartbeat import HEARTBEAT_SECONDS, LOG_FILE, is_dead, now_text
from lesion_exp.tracking.mlflow_values import MetricPoints, flat_params, last_steps
from lesion_exp.tracking.run_writer import RunLog, RunWriter
from lesion_exp.tracking.spool import LOCK_FILE, SPOOL_DIR, Spool, SpoolHeld
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import fetch_artifact
from lesion_exp.tracking.uploader import LARGEST_BATCH, SESSION, SESSION_TAG, Uploader, upload, upload_remaining

log = logging.getLogger(__name__)

Status = Literal["FINISHED", "FAILED", "KILLED"]
_LONGEST_ERROR: Final = 1000
_PATIENCE_SECONDS: Final = 30.0
"""How long a run that ends waits for its store to accept data."""


class TrackedRun(RunWriter):
    """An active run, a context manager: leaving the block sets the run's final status.

    Calls that log return at once, because they write to a spool in the run's live folder. A thread uploads the spool
    every `flush_seconds`, or when `flush_every` entries wait, and renews the heartbeat. So training continues while a
    server is unavailable, and data that are not uploaded at the end of the run wait for the verb `sync`. Another thread
    logs the machine's load every `system_metrics_seconds` (0: never). Messages of Python's `logging` become the
    artifact `log.txt`.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        *,
        spool: Spool | None = None,
        flush_seconds: float = 5.0,
        flush_every: int = 500,
        system_metrics_seconds: float = 10.0,
    ) -> None:
        known = store.client.get_run(run_id)
        info = known.info
        self.tags_at_start: dict[str, str] = dict(known.data.tags)
        super().__init__(store, run_id, info.artifact_uri)
        self.name = info.run_name or ""
        self.experiment_id: str = info.experiment_id
        self.live_dir: Path = store.live / run_id
        self.resumed = spool is not None
        self.unsent = False
        """Whether the store was unavailable at the end of the run, so that data wait for `sync`."""
        self._watch = DatabaseWatch(store.database, run_id) if store.database is not None else None
        self._lost: StoreLostError | None = None
        self._started = info.start_time / 1000
        self._flush_every = flush_every
        self.params_at_start: dict[str, str] = dict(known.data.params)
        self.metrics_at_start: dict[str, float] = dict(known.data.metrics)
        self._points = MetricPoints(last_steps(store.client, run_id) if self.resumed else None)
        self._spool = spool if spool is not None else Spool(self.live_dir / SPOOL_DIR)
        described = {"run_id": run_id, "run_name": info.run_name or "", "store": redacted(store.uri)}
        self._spool.describe({**described, SESSION: known.data.tags.get(SESSION_TAG, "")})
        self._log = RunLog(self, self.live_dir / LOG_FILE)
        self._finished = False
        self._sending = threading.Lock()
        self._log.open()
        self._uploader = Uploader(
            run_id, self._spool, self.flush, self._renew_heartbeat, pause=flush_seconds, beat_seconds=HEARTBEAT_SECONDS
        )
        self._load = MachineLoad(self._log_load, system_metrics_seconds)

    @classmethod
    def start(
        cls,
        store: Store,
        experiment: str,
        name: str,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """Starts a run; `params` is a nested config, `options` are keyword arguments of the constructor."""
        told = redacted(dict(tags or {}))
        first = {HEARTBEAT_TAG: now_text(), "mlflow.user": _user(), "mlflow.source.type": "LOCAL", **told}
        check_locks(store.live)
        created = store.client.create_run(store.experiment_id(experiment), tags=first, run_name=redacted(name))
        run = cls(store, created.info.run_id, **options)
        if params:
            run.log_params(params)
        return run

    @classmethod
    def resume(cls, store: Store, run_id: str, *, is_alone: bool = False, **options: Any) -> Self:
        """Resumes the run `run_id`; metrics of steps that it logged before are not logged again.

        `is_alone` says that the caller holds a lock which proves that no other process works on the run.

        Raises:
            ConfigError: another process is still working on the run.
        """
        known = store.client.get_run(run_id)
        if (
            not is_alone
            and known.info.status == "RUNNING"
            and HEARTBEAT_TAG in known.data.tags
            and not is_dead(store, known)
        ):
            raise ConfigError(
                f"expected a run that has stopped; {run_id} is RUNNING: its process is alive, or had a heartbeat less "
                "than 60 s ago on another machine. Wait until it ends, or a minute if it was killed there."
            )
        try:
            spool = Spool(store.live / run_id / SPOOL_DIR)
        except SpoolHeld as error:
            raise ConfigError(
                f"expected a run on which no process works, but another process holds {run_id}; wait until it ends, "
                f"and try again"
            ) from error
        try:
            upload_remaining(store, known, spool)
            store.client.set_tag(run_id, HEARTBEAT_TAG, now_text())
            store.client.set_tag(run_id, SESSION_TAG, uuid.uuid4().hex)
            store.client.update_run(run_id, status="RUNNING")
            for tag in {"error"} & known.data.tags.keys():
                store.client.delete_tag(run_id, tag)
            return cls(store, run_id, spool=spool, **options)
        except BaseException:
            spool.close()
            raise

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Logs metrics of a training step; returns at once.

        Raises:
            StoreLostError: the database of the run was deleted, replaced or cut.
        """
        if self._lost is not None:
            raise self._lost
        points = list(self._points.new(values, step).items())
        now = int(time.time() * 1000)
        for batch in _batches(points, LARGEST_BATCH["metrics"]):
            self._spool.add("metrics", time=now, step=step, values=batch)
        if self._spool.waiting >= self._flush_every:
            self._uploader.wake()

    def next_step(self, names: Iterable[str]) -> int:
        """Returns the first step at which, and after which, the run has no value of these metrics."""
        return self._points.next_step(names)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs a nested config as parameters `group.key`; in a resumed run only the parameters that it does not have.

        A parameter of the run keeps its value, with a warning if the new one differs: MLflow does not change
        parameters.
        """
        known, flat = self.params_at_start, flat_params(params)
        for name in sorted(name for name in flat if known.get(name, flat[name]) != flat[name]):
            log.warning(
                "the parameter %s of this run stays %s, although its value is %s now", name, known[name], flat[name]
            )
        new = [(name, value) for name, value in flat.items() if name not in known]
        for batch in _batches(new, LARGEST_BATCH["params"]):
            self._spool.add("params", values=batch)

    def log_missing_params(self, params: Mapping[str, Any]) -> None:
        """Logs those parameters of a nested config that the run does not have, without comparing the others."""
        flat = flat_params(params)
        self.log_params({name: text for name, text in flat.items() if name not in self.params_at_start})

    def has_file(self, artifact_path: str) -> bool:
        """Returns whether the run was resumed and has the artifact `artifact_path` already."""
        return self.resumed and fetch_artifact(self.store, self.run_id, self.artifact_uri, artifact_path) is not None

    def write_log(self, text: str) -> None:
        """Appends lines that only the terminal has shown to the run's `log.txt`."""
        self._log.write(f"{text}\n")

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Sets tags; booleans become `true` and `false`."""
        texts = redacted({name: str(tag).lower() if isinstance(tag, bool) else str(tag) for name, tag in tags.items()})
        for batch in _batches(list(texts.items()), LARGEST_BATCH["tags"]):
            self._spool.add("tags", values=batch)

    def delete_tags(self, names: Iterable[str]) -> None:
        """Removes tags, after everything that was logged before has been uploaded."""
        for name in names:
            self._spool.add("untag", name=name)

    def flush(self) -> None:
        """Uploads the spool in this thread.

        Raises:
            Exception: the store is unavailable.
        """
        with self._sending:
            try:
                if self._watch is not None:
                    self._watch.check()
                upload(self.store, self.run_id, self.artifact_uri, self._spool)
            except StoreLostError as error:
                self._lost = error
                raise
            except Exception:
                self._examine()
                raise

    def _examine(self) -> None:
        """Raises StoreLostError if an upload failed because the database is lost."""
        try:
            if self._watch is not None:
                self._watch.examine()
        except StoreLostError as error:
            self._lost = error
            raise

    def sync(self) -> None:
        """Flushes the data that are not uploaded yet to the disk. It has to be called before a later checkpoint is
        saved.
        """
        self._spool.sync()

    def finish(self, status: Status) -> None:
        """Uploads the spool and the log, and sets the final status of the run. A second call does nothing.

        If the store is unavailable, these data wait on disk for the verb `sync`, with a warning; `unsent` is then set.

        Raises:
            StoreLostError: the run's database was deleted, replaced or cut; data that were not uploaded are kept.
        """
        if self._finished:
            return
        self._finished = True
        self._load.stop()
        self._log.close()
        self._spool.add("status", status=status, time=int(time.time() * 1000))
        self._spool.sync()
        if self._uploader.finish(_PATIENCE_SECONDS):
            self._log.remove_if_alone()
            with suppress(OSError):  # the checkpoints of a stopped run are still there
                self.live_dir.rmdir()
        else:
            if self._lost is not None:
                raise self._lost
            self.unsent = True
            log.warning(
                "The store of runs has not accepted all data of run %s: %d entries wait in %s. "
                "When the store is available again, upload them with: %s",
                self.run_id,
                self._spool.waiting,
                self._spool.folder,
                next_command("sync"),
            )

    def clear_live_dir(self) -> None:
        """Removes the files of the run on this machine, such as checkpoints, but not data that were not uploaded."""
        if not self.live_dir.exists():
            return
        for path in self.live_dir.iterdir():
            if path.is_dir() and path != self._spool.folder:
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_file() and path.name != LOCK_FILE:
                path.unlink(missing_ok=True)  # other commands may remove files of a finished run at the same time
        with suppress(OSError):
            self.live_dir.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish("FINISHED")
            return
        status = status_after(error)
        try:
            self._log.write("".join(traceback.format_exception(error)))
            if status == "FAILED":
                self.set_tags({"error": f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]})
            self.finish(status)
        except StoreLostError:  # this error ended the run, or is in the log already
            pass
        except Exception:  # the error that ended the run is the one to show
            log.exception("Run %s could not be closed in the store.", self.run_id)

    def _put_file(self, path: Path, artifact_path: str) -> None:
        if self.store.artifact_dir(self.artifact_uri) is not None:
            super()._put_file(path, artifact_path)  # on a disk of this machine the copy needs no spool
        else:
            self._spool.add_file(path, artifact_path)

    def _put_dataset(self, dataset: dict[str, str], context: str) -> None:
        self._spool.add("inputs", dataset=dataset, context=context)

    def _log_load(self, values: Mapping[str, float]) -> None:
        if self._lost is None:
            self.log_metrics(values, step=int(time.time() - self._started))

    def _renew_heartbeat(self, silent_for: float) -> None:
        self.store.client.set_tag(self.run_id, HEARTBEAT_TAG, now_text())
        if silent_for > 2 * HEARTBEAT_SECONDS:
            # the store or the machine was unavailable for so long that others may have marked the run KILLED
            self.store.client.update_run(self.run_id, status="RUNNING")


def status_after(error: BaseException) -> Status:
    """Returns KILLED if the process was stopped (Ctrl-C, SIGTERM, SystemExit), FAILED for other errors.

    Lightning turns Ctrl-C into SystemExit(1), and SIGTERM into a subclass of SystemExit.
    """
    return "KILLED" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "FAILED"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for this user
        return "unknown"


def _batches(items: list[tuple[str, Any]], size: int) -> Iterator[dict[str, Any]]:
    for begin in range(0, len(items), size):
        yield dict(items[begin : begin + size])
