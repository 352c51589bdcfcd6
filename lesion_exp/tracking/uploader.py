"""Uploads the spool of a run to its store, in a thread that also renews the heartbeat."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from lesion_exp.tracking.mlflow_values import known_steps
from lesion_exp.tracking.run_writer import dataset_input
from lesion_exp.tracking.spool import read_header

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

    from lesion_exp.tracking.spool import Entry, Spool
    from lesion_exp.tracking.store import Store

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS: Final = 30.0
"""Longest pause between two attempts while the store is unavailable."""
SLOWEST_BYTES_A_SECOND: Final = 500_000
"""Slowest rate of an upload for which a run waits at its end; slower uploads are left to `sync`."""
LARGEST_BATCH: Final[Mapping[str, int]] = {"metrics": 1000, "params": 100, "tags": 100}
"""The number of names with a value that MLflow accepts in one call."""
SESSION_TAG: Final = "mlflow.sitting"
"""Tag of a resumed run, with a new value each time that it is resumed on any machine."""
SESSION: Final = "sitting"
"""The same value in the header of the spool; empty if the run was not resumed before."""
_FIRST_PAUSE_SECONDS: Final = 1.0
_LAST_ATTEMPTS: Final = 3
_REFUSING_STATUS: Final = (400, 413, 415, 422)
_PEEKED: Final = 1000


class Uploader:
    """Calls `send` every `pause` seconds, and `beat` every `beat_seconds` with the seconds since its last success.

    If one of them raises, the store is considered unavailable, and the pause grows to half a minute. Callers that log
    never wait.
    """

    def __init__(
        self,
        run_id: str,
        spool: Spool,
        send: Callable[[], object],
        beat: Callable[[float], object],
        *,
        pause: float,
        beat_seconds: float,
    ) -> None:
        self._spool = spool
        self._send = send
        self._beat = beat
        self._pause = pause
        self._beat_seconds = beat_seconds
        self._away_since: float | None = None
        self._delivered = False
        self._ending = threading.Event()
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._live, name=f"run {run_id}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Requests an upload now, unless the store is unavailable."""
        if self._away_since is None:
            self._awake.set()

    def finish(self, patience: float) -> bool:
        """Lets the thread upload the rest and close the spool; returns whether everything was uploaded.

        If the store is unavailable already there is one more attempt, otherwise there are three. If there is no
        progress for `patience` seconds plus the time that the current file may need, the thread is left running.
        """
        self._ending.set()
        self._awake.set()
        waiting, since = self._spool.waiting, time.monotonic()
        while self._thread.is_alive():
            self._thread.join(timeout=0.1)
            if self._spool.waiting != waiting:
                waiting, since = self._spool.waiting, time.monotonic()
            if time.monotonic() - since > patience + self._spool.front_bytes() / SLOWEST_BYTES_A_SECOND:
                return False
        return self._delivered

    def _send_last(self) -> bool:
        for attempt in range(1, (_LAST_ATTEMPTS if self._away_since is None else 1) + 1):
            if attempt > 1:
                time.sleep(attempt - 1)
            try:
                self._send()
                return True
            except Exception as error:
                self._note_away(error)
        return False

    def _live(self) -> None:
        beaten = time.monotonic()
        pause = self._pause
        while not self._ending.is_set():
            try:
                now = time.monotonic()
                if now - beaten >= self._beat_seconds:
                    self._beat(now - beaten)
                    beaten = now
                self._send()
                self._note_back()
                pause = self._pause
            except Exception as error:
                self._note_away(error)
                self._spool.sync()
                pause = min(LONGEST_PAUSE_SECONDS, max(_FIRST_PAUSE_SECONDS, 2 * pause))
            self._awake.wait(pause)
            self._awake.clear()
        try:
            self._delivered = self._send_last()
        finally:
            self._spool.close()

    def _note_away(self, error: Exception) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            log.warning(
                "The store of runs is unavailable; the run continues, and its data are kept in %s meanwhile: %s",
                self._spool.folder,
                error,
            )

    def _note_back(self) -> None:
        if self._away_since is not None:
            log.warning(
                "The store of runs is available again after %.0f s and has received all data.",
                time.monotonic() - self._away_since,
            )
            self._away_since = None


def upload_remaining(store: Store, run: MlflowRun, spool: Spool) -> Counter[str]:
    """Uploads the spool of a process of `run` that has ended; see `upload`.

    A point of a metric is left out if the store has a value at its step. If the run has been resumed elsewhere in the
    meantime, its status, tags and files are left out as well, since those of the later process are newer.
    """
    run_id = run.info.run_id
    header = read_header(spool.folder) or {}
    is_overtaken = SESSION in header and header[SESSION] != run.data.tags.get(SESSION_TAG, "")
    if is_overtaken:
        log.warning(
            "Run %s was resumed elsewhere after %s was written: only the metrics in it are uploaded.",
            run_id,
            spool.folder,
        )
    steps: dict[str, set[int]] = {}

    def choose(entry: Entry) -> Entry | None:
        if entry["kind"] != "metrics":
            return None if is_overtaken else entry
        for name in entry["values"].keys() - steps.keys():
            steps[name] = known_steps(store.client, run_id, name)
        values = {name: value for name, value in entry["values"].items() if entry["step"] not in steps[name]}
        return {**entry, "values": values} if values else None

    return upload(store, run_id, run.info.artifact_uri, spool, choose)


def _as_it_is(entry: Entry) -> Entry | None:
    return entry


def upload(
    store: Store,
    run_id: str,
    artifact_uri: str,
    spool: Spool,
    choose: Callable[[Entry], Entry | None] = _as_it_is,
) -> Counter[str]:
    """Uploads all entries of the spool; returns the numbers of uploaded metrics, params, tags, files and inputs.

    Entries can be uploaded again after an interruption: MLflow ignores metrics and data sets that the run has already,
    accepts equal parameters, and overwrites tags, files and the status by equal ones. An entry that the store refuses,
    such as a file that is too large, is set aside with an error in the log.

    Args:
        store: the store of the run.
        run_id: the id of the run.
        artifact_uri: the address of its artifacts.
        spool: the spool of the run, which this process holds.
        choose: returns the part of an entry that is to be uploaded; None leaves it out.

    Raises:
        Exception: the store is unavailable; data that were not uploaded stay in the spool.
    """
    taken: Counter[str] = Counter()
    alone = 0  # number of entries to upload one by one, since their common call was refused
    while entries := _one_call(spool.peek(1 if alone else _PEEKED)):
        try:
            chosen = [kept for entry in entries if (kept := choose(entry)) is not None]
            if chosen:
                _send(store, run_id, artifact_uri, spool, chosen)
        except Exception as error:
            if not _refuses(store.client, run_id, error):
                raise
            if len(entries) > 1:
                alone = len(entries)
                continue
            log.error("The store refuses %s of run %s: %s", _name(entries[0]), run_id, error)
            spool.set_aside(entries[0], str(error))
        else:
            kind = "files" if entries[0]["kind"] == "file" else entries[0]["kind"]
            taken.update({kind: sum(_size(entry) for entry in chosen)} if chosen else {})
            spool.take(len(entries))
        alone = max(0, alone - 1)
    return taken


def _one_call(entries: Sequence[Entry]) -> list[Entry]:
    """Returns the first entries that fit into one call: of one kind, within MLflow's limits, no parameter twice."""
    chosen: list[Entry] = []
    names: set[str] = set()
    room = LARGEST_BATCH.get(entries[0]["kind"], 1) if entries else 0
    for entry in entries:
        room -= _size(entry)
        other = bool(chosen) and entry["kind"] != chosen[0]["kind"]
        repeated = entry["kind"] == "params" and bool(names & entry["values"].keys())
        if chosen and (room < 0 or other or repeated):
            break
        names |= entry.get("values", {}).keys()
        chosen.append(entry)
    return chosen


def _size(entry: Entry) -> int:
    return len(entry["values"]) if entry["kind"] in LARGEST_BATCH else 1


def _send(store: Store, run_id: str, artifact_uri: str, spool: Spool, entries: Sequence[Entry]) -> None:
    from mlflow.entities import Metric, Param, RunTag

    first, client = entries[0], store.client
    match first["kind"]:
        case "metrics":
            points = [Metric(name, value, entry["time"], entry["step"])
                      for entry in entries for name, value in entry["values"].items()]  # fmt: skip
            client.log_batch(run_id, metrics=points, synchronous=True)
        case "params":
            params = [Param(name, text) for entry in entries for name, text in entry["values"].items()]
            client.log_batch(run_id, params=params, synchronous=True)
        case "tags":
            last = {name: text for entry in entries for name, text in entry["values"].items()}
            client.log_batch(run_id, tags=[RunTag(name, text) for name, text in last.items()], synchronous=True)
        case "untag":
            _untag(client, run_id, first["name"])
        case "file" if spool.file(first).exists():
            store.put_artifact(run_id, artifact_uri, spool.file(first), first["path"])
        case "file":
            log.warning("%s of run %s was uploaded before; its copy is gone.", first["path"], run_id)
        case "inputs":
            _log_input(client, run_id, first)
        case "status":
            client.set_terminated(run_id, first["status"], end_time=first["time"])
        case unknown:
            raise AssertionError(f"no such entry: {unknown}")


def _log_input(client: MlflowClient, run_id: str, entry: Entry) -> None:
    """Logs a data set. MLflow looks for it and then enters it, and another run may enter the same one in between: the
    call fails then, and the next one finds it."""
    from mlflow.exceptions import MlflowException

    data = [dataset_input(entry["dataset"], entry["context"])]
    try:
        client.log_inputs(run_id, datasets=data)
    except MlflowException as error:
        if not any(word in str(error).lower() for word in ("unique", "duplicate")):
            raise
        client.log_inputs(run_id, datasets=data)


def _untag(client: MlflowClient, run_id: str, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.delete_tag(run_id, name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # it has been removed already
            raise


def _refuses(client: MlflowClient, run_id: str, error: Exception) -> bool:
    """Returns whether the store refused an entry permanently, as invalid or too large; a deleted run may be
    restored.
    """
    from mlflow.exceptions import MlflowException

    response = getattr(error, "response", None)
    if response is not None and getattr(response, "status_code", None) in _REFUSING_STATUS:
        return True
    if not isinstance(error, MlflowException) or error.error_code != "INVALID_PARAMETER_VALUE":
        return False
    return bool(client.get_run(run_id).info.lifecycle_stage == "active")


def _name(entry: Entry) -> str:
    return str(entry.get("path") or ", ".join(entry.get("values", {})) or entry["kind"])
