"""A run in MLflow that tells the truth about itself: alive, finished, failed or killed."""

from __future__ import annotations

import getpass
import logging
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from lesion_exp.data.lock import hold, release
from lesion_exp.errors import ConfigError
from lesion_exp.tracking.embedded import HEARTBEAT_TAG
from lesion_exp.tracking.heartbeat import HEARTBEAT_SECONDS, LOCK_FILE, LOG_FILE, is_dead, now_text
from lesion_exp.tracking.metric_buffer import MetricBuffer
from lesion_exp.tracking.params import flat_params
from lesion_exp.tracking.run_log import RunLog
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.system_metrics import system_metrics
from lesion_exp.tracking.written import Written

_log = logging.getLogger(__name__)

Status = Literal["FINISHED", "FAILED", "KILLED"]
_TAGS_IN_A_BATCH: Final = 100
_LONGEST_ERROR: Final = 1000
_SENDING_ATTEMPTS: Final = 3


class TrackedRun(Written):
    """A run that is being recorded. Use it as a context manager: leaving the block says how the run ended.

    Metrics wait in memory and are sent by a thread every `flush_seconds` or when `flush_every` have gathered; the same
    thread renews the heartbeat and reads the machine's load every `system_metrics_seconds` (0: never).
    What is logged through Python's `logging` meanwhile becomes the artifact `log.txt`.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        *,
        resumed: bool = False,
        flush_seconds: float = 5.0,
        flush_every: int = 500,
        system_metrics_seconds: float = 10.0,
    ) -> None:
        known = store.client.get_run(run_id)
        info = known.info
        self.tags_at_start: dict[str, str] = dict(known.data.tags)
        super().__init__(store, run_id, info.artifact_uri)
        self.experiment_id: str = info.experiment_id
        self.live_dir: Path = store.live / run_id
        self.resumed = resumed
        self._started = info.start_time / 1000
        self._flush_seconds = flush_seconds
        self._flush_every = flush_every
        self._sample_seconds = system_metrics_seconds
        if not hold(self.live_dir / LOCK_FILE):
            raise ConfigError(f"expected a run that nobody works on, but another process holds {run_id}")
        self._metrics = MetricBuffer(store.client, run_id, self.live_dir, resumed)
        self._log = RunLog(self, self.live_dir / LOG_FILE)
        self._ending = threading.Event()
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._live, name=f"run {run_id}", daemon=True)
        self._log.open()
        self._thread.start()

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
        first = {HEARTBEAT_TAG: now_text(), "mlflow.user": _user(), "mlflow.source.type": "LOCAL", **(tags or {})}
        created = store.client.create_run(store.experiment_id(experiment), tags=first, run_name=name)
        run = cls(store, created.info.run_id, **options)
        if params:
            run.log_params(params)
        return run

    @classmethod
    def resume(cls, store: Store, run_id: str, **options: Any) -> Self:
        """The run `run_id`, RUNNING again; metrics of steps that it logged before are not logged twice.

        Raises:
            ConfigError: a process that is alive is still working on it.
        """
        known = store.client.get_run(run_id)
        if known.info.status == "RUNNING" and HEARTBEAT_TAG in known.data.tags and not is_dead(store, known):
            raise ConfigError(
                f"expected a run that has stopped; {run_id} is RUNNING: its process lives, or gave a sign of life less "
                "than 60 s ago on another machine. Wait until it ends, or a minute if it was killed there."
            )
        store.client.set_tag(run_id, HEARTBEAT_TAG, now_text())
        store.client.update_run(run_id, status="RUNNING")
        for tag in {"error"} & known.data.tags.keys():
            store.client.delete_tag(run_id, tag)
        return cls(store, run_id, resumed=True, **options)

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Records metrics of a training step; returns at once."""
        self._metrics.add(values, step)
        if len(self._metrics) >= self._flush_every:
            self._awake.set()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Records a nested config as parameters `group.key`; in a resumed run only those it does not have.

        A parameter that the run has with another value keeps it, with a warning: MLflow changes none.
        """
        from mlflow.entities import Param

        flat = flat_params(params)
        if self.resumed:
            known = self.store.client.get_run(self.run_id).data.params
            for name in sorted(name for name in flat if known.get(name, flat[name]) != flat[name]):
                _log.warning("%s is %s in this run and stays so, though now it is %s.", name, known[name], flat[name])
            flat = {name: value for name, value in flat.items() if name not in known}
        entries = [Param(name, value) for name, value in flat.items()]
        for begin in range(0, len(entries), _TAGS_IN_A_BATCH):
            batch = entries[begin : begin + _TAGS_IN_A_BATCH]
            self.store.client.log_batch(self.run_id, params=batch, synchronous=True)

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Sets tags; booleans become `true` and `false`."""
        from mlflow.entities import RunTag

        texts = {name: str(tag).lower() if isinstance(tag, bool) else str(tag) for name, tag in tags.items()}
        entries = [RunTag(name, text) for name, text in texts.items()]
        for begin in range(0, len(entries), _TAGS_IN_A_BATCH):
            batch = entries[begin : begin + _TAGS_IN_A_BATCH]
            self.store.client.log_batch(self.run_id, tags=batch, synchronous=True)

    def flush(self) -> None:
        """Sends the metrics that wait, here and now."""
        self._metrics.send()

    def sync(self) -> None:
        """Brings what is not sent yet to the disk; to be called before a checkpoint that comes after it."""
        self._metrics.sync()

    def finish(self, status: Status) -> None:
        """Sends what waits, saves the log and gives the run its final status. A second call does nothing.

        Raises:
            mlflow.exceptions.MlflowException: the store took the metrics in none of three attempts.
        """
        if self._ending.is_set():
            return
        self._ending.set()
        self._awake.set()
        self._thread.join(timeout=30)
        try:
            self._send_patiently()
            self._metrics.close()
        finally:
            try:
                release(self.live_dir / LOCK_FILE)
                self._log.close()
            finally:
                self.store.client.set_terminated(self.run_id, status)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish("FINISHED")
            return
        status = status_after(error)
        self._log.write("".join(traceback.format_exception(error)))
        try:
            if status == "FAILED":
                self.set_tags({"error": f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]})
            self.finish(status)
        except Exception:  # the error that ended the run is the one to be seen
            _log.exception("Run %s could not be closed in the store.", self.run_id)

    def _live(self) -> None:
        """The run's own thread: sends metrics, renews the heartbeat, reads the machine's load."""
        beat = time.monotonic()
        sampled = beat - self._sample_seconds
        pause = min(self._flush_seconds, self._sample_seconds or self._flush_seconds, HEARTBEAT_SECONDS)
        while not self._ending.is_set():
            now = time.monotonic()
            if self._sample_seconds and now - sampled >= self._sample_seconds:
                self._metrics.add(system_metrics(), step=int(time.time() - self._started))
                sampled = now
            try:
                if now - beat >= HEARTBEAT_SECONDS:
                    self._renew_heartbeat(silent_for=now - beat)
                    beat = now
                self._metrics.send()
            except Exception as error:
                _log.warning("The store of runs does not answer, will try again: %s", error)
            self._awake.wait(pause)
            self._awake.clear()

    def _renew_heartbeat(self, silent_for: float) -> None:
        self.store.client.set_tag(self.run_id, HEARTBEAT_TAG, now_text())
        if silent_for > 2 * HEARTBEAT_SECONDS and not self._ending.is_set():
            # the store or the machine was away so long that others may have marked the run KILLED
            self.store.client.update_run(self.run_id, status="RUNNING")

    def _send_patiently(self) -> None:
        for attempt in range(1, _SENDING_ATTEMPTS + 1):
            try:
                self._metrics.send()
                return
            except Exception:
                if attempt == _SENDING_ATTEMPTS:
                    _log.error("%d metrics of run %s could not be sent.", len(self._metrics), self.run_id)
                    raise
                time.sleep(attempt)


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
