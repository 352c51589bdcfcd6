"""The thread of a living run: carries what was logged to the store and says that the run is alive."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from lesion_exp.tracking.run_writer import dataset_input, known_steps
from lesion_exp.tracking.spool import read_header

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

    from lesion_exp.tracking.spool import Entry, Spool
    from lesion_exp.tracking.store import Store

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS: Final = 30.0
"""A store that is away is asked this often in the end."""
SLOWEST_BYTES_A_SECOND: Final = 500_000
"""A file that goes to the store more slowly than this is given up at the end of a run, and left to `sync`."""
_FIRST_PAUSE_SECONDS: Final = 1.0
_LAST_ATTEMPTS: Final = 3


class Uploader:
    """Calls `send` every `pause` seconds and `beat` (with the seconds since its last success) every `beat_seconds`.

    While the store is away, which either says by raising, the pause grows to half a minute; whoever logs never waits.
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
        """Asks for a delivery now; a store that is away is left its pause."""
        if self._away_since is None:
            self._awake.set()

    def finish(self, patience: float) -> bool:
        """Lets the thread upload the rest and close the spool; whether the store took all of it.

        A store that is away gets one more attempt, one that just went away three. Where nothing arrives for `patience`
        seconds, and for as long as the file on its way may take, the thread is left to itself.
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
                "The store of runs takes nothing now; the run goes on, what it logs is kept in %s until it does: %s",
                self._spool.folder,
                error,
            )

    def _note_back(self) -> None:
        if self._away_since is not None:
            log.warning(
                "The store of runs took all that was logged in the %.0f s in which it was away.",
                time.monotonic() - self._away_since,
            )
            self._away_since = None


LARGEST_BATCH: Final[Mapping[str, int]] = {"metrics": 1000, "params": 100, "tags": 100}
"""How many names with a value MLflow accepts in one call."""
SESSION_TAG: Final = "mlflow.sitting"
"""Tag of a run that was resumed: a new value each time, wherever that happens."""
SESSION: Final = "sitting"
"""The same in the header of the spool of the process that works on the run; empty before it was ever resumed."""
_REFUSING_STATUS: Final = (400, 413, 415, 422)
_PEEKED: Final = 1000


def upload_remaining(store: Store, run: MlflowRun, spool: Spool) -> Counter[str]:
    """Sends what a process of `run` that is gone has left, as `upload` does.

    A point of a metric is left out where the store has a value at its step. Where the run was resumed elsewhere since,
    its status, tags and files are those of the later process, and the older ones are left out, too.
    """
    run_id = run.info.run_id
    header = read_header(spool.folder) or {}
    is_overtaken = SESSION in header and header[SESSION] != run.data.tags.get(SESSION_TAG, "")
    if is_overtaken:
        log.warning(
            "Run %s was resumed elsewhere after %s was written: of what is left there only metrics are sent.",
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
    """Sends everything that waits; how many metrics, params, tags, files and inputs the store took.

    `choose` gives what of an entry is to be sent; None leaves it out.

    Every entry may be sent again after a cut: MLflow drops metrics that are equal in every respect and data sets that
    the run has, and takes equal parameters; tags, files and the status are written over by the same. An entry that the
    store refuses, such as a file that is too large for it, is set aside with an error in the log.

    Raises:
        Exception: whatever says that the store does not answer; what it has not taken stays in the spool.
    """
    taken: Counter[str] = Counter()
    alone = 0  # entries whose common call was refused: they go one by one
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
    """The first entries that fit into one call: of one kind, within MLflow's limits, no parameter twice."""
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
            log.warning("%s of run %s was sent before; its copy is gone.", first["path"], run_id)
        case "inputs":
            client.log_inputs(run_id, datasets=[dataset_input(first["dataset"], first["context"])])
        case "status":
            client.set_terminated(run_id, first["status"], end_time=first["time"])
        case unknown:
            raise AssertionError(f"no such entry: {unknown}")


def _untag(client: MlflowClient, run_id: str, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.delete_tag(run_id, name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # it was removed before
            raise


def _refuses(client: MlflowClient, run_id: str, error: Exception) -> bool:
    """Whether the store answered and will never take this: wrong in itself, or too large; a deleted run may return."""
    from mlflow.exceptions import MlflowException

    response = getattr(error, "response", None)
    if response is not None and getattr(response, "status_code", None) in _REFUSING_STATUS:
        return True
    if not isinstance(error, MlflowException) or error.error_code != "INVALID_PARAMETER_VALUE":
        return False
    return bool(client.get_run(run_id).info.lifecycle_stage == "active")


def _name(entry: Entry) -> str:
    return str(entry.get("path") or ", ".join(entry.get("values", {})) or entry["kind"])
