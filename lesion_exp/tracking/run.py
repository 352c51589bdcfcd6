"""A run in MLflow that tells the truth about itself: alive, finished, failed or killed."""

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
from lesion_exp.privacy import redacted
from lesion_exp.tracking.embedded import HEARTBEAT_TAG, DatabaseWatch, StoreLostError
from lesion_exp.tracking.find import fetch_artifact
from lesion_exp.tracking.heartbeat import HEARTBEAT_SECONDS, LOG_FILE, is_dead, now_text
from lesion_exp.tracking.params import flat_params
from lesion_exp.tracking.run_log import RunLog
from lesion_exp.tracking.run_writer import MetricPoints, RunWriter, last_steps
from lesion_exp.tracking.spool import LOCK_FILE, SPOOL_DIR, Spool, SpoolHeld
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.system_metrics import MachineLoad
from lesion_exp.tracking.uploader import LARGEST_BATCH, SESSION, SESSION_TAG, Uploader, upload, upload_remaining

log = logging.getLogger(__name__)

Status = Literal["FINISHED", "FAILED", "KILLED"]
_LONGEST_ERROR: Final = 1000
_PATIENCE_SECONDS: Final = 30.0
"""How long a run that ends waits for its store to take anything."""


class TrackedRun(RunWriter):
    """A run that is being recorded. Use it as a context manager: leaving the block says how the run ended.

    Whatever is logged is written to a spool in the run's live folder and returns at once; a thread sends it every
    `flush_seconds`, or when `flush_every` calls have gathered, and renews the heartbeat. So a run outlives its store:
    while a server is away training goes on, and what it has not got when the run ends waits for `sync`.
    Another thread reads the machine's load every `system_metrics_seconds` (0: never).
    What is logged through Python's `logging` meanwhile becomes the artifact `log.txt`.
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
        """Whether the store was away when the run ended, so that a part of it waits for `sync`."""
        self._watch = DatabaseWatch(store.database, run_id) if store.database is not None else None
        self._lost: StoreLostError | None = None
        self._started = info.start_time / 1000
        self._flush_every = flush_every
        self.params_at_start: dict[str, str] = dict(known.data.params)
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
        """A new run, RUNNING from now on; `params` is a nested config, `options` are those of the constructor."""
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
        """The run `run_id`, RUNNING again; metrics of steps that it logged before are not logged twice.

        `is_alone` says that the caller holds a lock which proves that no other process works on the run.

        Raises:
            ConfigError: a process that is alive is still working on it.
        """
        known = store.client.get_run(run_id)
        if (
            not is_alone
            and known.info.status == "RUNNING"
            and HEARTBEAT_TAG in known.data.tags
            and not is_dead(store, known)
        ):
            raise ConfigError(
                f"expected a run that has stopped; {run_id} is RUNNING: its process lives, or gave a sign of life less "
                "than 60 s ago on another machine. Wait until it ends, or a minute if it was killed there."
            )
        try:
            spool = Spool(store.live / run_id / SPOOL_DIR)
        except SpoolHeld as error:
            raise ConfigError(f"expected a run that nobody works on, but another process holds {run_id}") from error
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
        """Records metrics of a training step; returns at once.

        Raises:
            StoreLostError: the database that the run is recorded in was deleted, replaced or cut meanwhile.
        """
        if self._lost is not None:
            raise self._lost
        points = list(self._points.new(values, step).items())
        now = int(time.time() * 1000)
        for batch in _batches(points, LARGEST_BATCH["metrics"]):
            self._spool.add("metrics", time=now, step=step, values=batch)
        if self._spool.waiting >= self._flush_every:
            self._uploader.wake()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Records a nested config as parameters `group.key`; in a resumed run only those it does not have.

        A parameter that the run has with another value keeps it, with a warning: MLflow changes none.
        """
        known, flat = self.params_at_start, flat_params(params)
        for name in sorted(name for name in flat if known.get(name, flat[name]) != flat[name]):
            log.warning("%s is %s in this run and stays so, though now it is %s.", name, known[name], flat[name])
        new = [(name, value) for name, value in flat.items() if name not in known]
        for batch in _batches(new, LARGEST_BATCH["params"]):
            self._spool.add("params", values=batch)

    def log_missing_params(self, params: Mapping[str, Any]) -> None:
        """Records those of a nested config that the run does not have, whatever the values of the others are."""
        flat = flat_params(params)
        self.log_params({name: text for name, text in flat.items() if name not in self.params_at_start})

    def has_file(self, artifact_path: str) -> bool:
        """Whether a run that is resumed kept a file before it stopped."""
        return self.resumed and fetch_artifact(self.store, self.run_id, self.artifact_uri, artifact_path) is not None

    def write_log(self, text: str) -> None:
        """Appends lines that went to the terminal alone to the run's `log.txt`."""
        self._log.write(f"{text}\n")

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Sets tags; booleans become `true` and `false`."""
        texts = redacted({name: str(tag).lower() if isinstance(tag, bool) else str(tag) for name, tag in tags.items()})
        for batch in _batches(list(texts.items()), LARGEST_BATCH["tags"]):
            self._spool.add("tags", values=batch)

    def delete_tags(self, names: Iterable[str]) -> None:
        """Removes tags, once all that was logged before has reached the store."""
        for name in names:
            self._spool.add("untag", name=name)

    def flush(self) -> None:
        """Sends what waits, here and now.

        Raises:
            Exception: the store does not answer.
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
        """Finds out whether a delivery failed because the database is lost."""
        try:
            if self._watch is not None:
                self._watch.examine()
        except StoreLostError as error:
            self._lost = error
            raise

    def sync(self) -> None:
        """Brings what is not sent yet to the disk; to be called before a checkpoint that comes after it."""
        self._spool.sync()

    def finish(self, status: Status) -> None:
        """Sends what waits, saves the log and gives the run its final status. A second call does nothing.

        Where the store is away, all this waits on disk for the verb `sync`, with a warning; `unsent` says so.

        Raises:
            StoreLostError: the run's database was deleted, replaced or cut; all that it had not got is kept.
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
            with suppress(OSError):  # checkpoints of a run that stopped stay
                self.live_dir.rmdir()
        else:
            if self._lost is not None:
                raise self._lost
            self.unsent = True
            log.warning(
                "The store of runs has not taken all of run %s: %d entries wait in %s. "
                "When it is back, send them with: lesion-exp sync",
                self.run_id,
                self._spool.waiting,
                self._spool.folder,
            )

    def clear_live_dir(self) -> None:
        """Removes what the run kept on this machine, such as checkpoints, but not what the store has not got."""
        if not self.live_dir.exists():
            return
        for path in self.live_dir.iterdir():
            if path.is_dir() and path != self._spool.folder:
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_file() and path.name != LOCK_FILE:
                path.unlink(missing_ok=True)  # other commands remove what a finished run left, too
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
        except StoreLostError:  # which ended the run, or is said in the log by now
            pass
        except Exception:  # the error that ended the run is the one to be seen
            log.exception("Run %s could not be closed in the store.", self.run_id)

    def _put_file(self, path: Path, artifact_path: str) -> None:
        if self.store.artifact_dir(self.artifact_uri) is not None:
            super()._put_file(path, artifact_path)  # a disk of this machine: nothing to wait for
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
            # the store or the machine was away so long that others may have marked the run KILLED
            self.store.client.update_run(self.run_id, status="RUNNING")


def status_after(error: BaseException) -> Status:
    """KILLED where somebody stopped the process (Ctrl-C, SIGTERM, an exit on purpose), FAILED for all other errors.

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
