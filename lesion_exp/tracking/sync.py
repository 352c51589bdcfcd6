"""Uploads the spools of runs on this machine, whose store was unavailable."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from lesion_exp.errors import ConfigError, first_cases
from lesion_exp.tracking.embedded import HEARTBEAT_TAG
from lesion_exp.tracking.heartbeat import is_dead
from lesion_exp.tracking.run_names import SHORTEST_PREFIX
from lesion_exp.tracking.spool import SPOOL_DIR, Spool, SpoolHeld, read_header
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.uploader import upload_remaining

State = Literal["sent", "alive", "failed", "refused"]
_CLOCKS_DIFFER: Final = 5.0
"""Seconds by which a heartbeat must be later than the spool to come from another process."""


@dataclass(frozen=True)
class Synced:
    """The outcome of uploading the spool of a run."""

    run_id: str
    name: str
    state: State
    """`sent`; `alive`: a process works on the run; `refused`: the store refuses some entries; or `failed`."""
    counts: Counter[str] = field(default_factory=Counter)
    """The numbers of uploaded metrics, params, tags, files and inputs."""
    reason: str = ""

    def line(self) -> str:
        """Returns the outcome as a line of text."""
        sent = (
            ", ".join(f"{number} {kind}" for kind, number in self.counts.items() if kind not in ("status", "untag"))
            or "nothing"
        )
        return f"{self.run_id}  {self.state:<7}  {sent}{f': {self.reason}' if self.reason else ''}"


def sync_runs(live: Path, connect: Callable[[str], Store], spec: str | None = None) -> list[Synced]:
    """Uploads the spools in the folder `live`, all or that of the run `spec`, and returns the outcome of each.

    `spec` is an id or the beginning of an id.

    `connect` opens the store at the address in a spool, which has no user and password. An uploaded spool is removed.
    Data are neither lost nor duplicated by simultaneous calls or by a call that is killed.

    Raises:
        ConfigError: `spec` matches no run, or several runs.
    """
    folders = {folder.parent.name: folder for folder in sorted(live.glob(f"*/{SPOOL_DIR}")) if read_header(folder)}
    chosen = _choose(list(folders), spec, live) if spec else list(folders)
    stores: dict[str, Store | ConfigError] = {}
    outcomes = []
    for run_id in chosen:
        header = read_header(folders[run_id])
        if header is None:
            continue  # another process has uploaded it
        uri = header["store"]
        if uri not in stores:
            try:
                stores[uri] = connect(uri)
            except ConfigError as error:
                stores[uri] = error
        outcomes.append(_sync_run(stores[uri], run_id, header["run_name"], folders[run_id]))
    return outcomes


def _sync_run(store: Store | ConfigError, run_id: str, name: str, folder: Path) -> Synced:
    if isinstance(store, ConfigError):
        return Synced(run_id, name, "failed", reason=str(store))
    try:
        spool = Spool(folder)
    except SpoolHeld:
        return Synced(run_id, name, "alive", reason="a process on this machine works on it and uploads it itself")
    counts: Counter[str] = Counter()
    try:
        known = store.client.get_run(run_id)
        beat = float(known.data.tags.get(HEARTBEAT_TAG, 0))
        if (
            known.info.status == "RUNNING"
            and not is_dead(store, known)
            and beat > spool.last_written() + _CLOCKS_DIFFER
        ):
            return Synced(run_id, name, "alive", reason="it was resumed elsewhere; try again when it has ended")
        spool.retry_refused()
        counts = upload_remaining(store, known, spool)
    except Exception as error:
        return Synced(run_id, name, "failed", counts, str(error))
    finally:
        spool.close()
        with suppress(OSError):
            folder.parent.rmdir()
    if spool.refused:
        return Synced(run_id, name, "refused", counts, f"the store refuses {spool.refused} entries, see {folder}")
    return Synced(run_id, name, "sent", counts)


def _choose(known: list[str], spec: str, live: Path) -> list[str]:
    long_enough = re.fullmatch(rf"[0-9a-f]{{{SHORTEST_PREFIX},32}}", spec.lower())
    chosen = [run_id for run_id in known if run_id.startswith(spec.lower())] if long_enough else []
    if len(chosen) != 1:
        listed = first_cases(known) or "  none"
        raise ConfigError(
            f"expected the id of a run that waits to be uploaded, or its first {SHORTEST_PREFIX} letters or more, got "
            f"{spec!r}, which matches {len(chosen)} of those in {live}:\n{listed}\nLeave run= out to upload all."
        )
    return chosen
