"""Makes stores with many runs from a project with few, in SQLite, in PostgreSQL or behind an MLflow server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from benchmark_start import variables
from postgres_server import postgres_server

BACKENDS = ("sqlite", "postgresql", "server")
EXPERIMENT = "1"
"""The id of the first experiment that a store gets after MLflow's own."""
TABLES = ("tags", "params", "metrics", "latest_metrics")
COPIED = ("experiments", "experiment_tags", "runs", *TABLES)
"""Tables that are copied to another database, in the order in which their keys refer to each other."""
ROWS_AT_ONCE = 20_000


@dataclass(frozen=True)
class Place:
    """A project whose store has many runs."""

    folder: Path
    uri: str | None = None
    """The address of its store; None for the embedded one."""
    servers: list[psutil.Process] = field(default_factory=list)
    """The processes that answer questions to the store."""

    @property
    def is_server(self) -> bool:
        """Whether the address is that of an MLflow server, which has the embedded store of the project."""
        return self.uri is not None and self.uri.startswith("http")

    def served(self) -> float:
        """Seconds for which the servers have used a processor."""
        return sum(map(seconds_of_tree, self.servers))

    def variables(self) -> dict[str, str]:
        """The environment of commands on this store."""
        return {**variables(), **({"MLFLOW_TRACKING_URI": self.uri} if self.uri else {})}


def seconds_of_tree(process: psutil.Process) -> float:
    """Seconds for which a process and its children, also those that have ended, have used a processor."""
    used = process.cpu_times()
    own = used.user + used.system + used.children_user + used.children_system
    return own + sum(seconds_of_tree(child) for child in process.children() if child.is_running())


@contextmanager
def opened(backend: str, folder: Path) -> Iterator[Place]:
    """Yields the store of the project in `folder` as one of `BACKENDS`."""
    if backend == "postgresql":
        with postgres_server() as (uri, server):
            copy_rows(folder / "mlruns" / "mlflow.db", uri, folder)
            yield Place(folder, uri, [server])
    elif backend == "server":
        with page_server(Place(folder)) as (uri, server, _):
            yield Place(folder, uri, [server])
    else:
        yield Place(folder)


@contextmanager
def page_server(place: Place) -> Iterator[tuple[str, psutil.Process, float]]:
    """Starts MLflow's server on a store as `lesion-exp ui` does.

    Yields its address, its process, and the seconds for which processors were used until it answered.
    """
    from lesion_exp.tracking.store import open_store
    from lesion_exp.tracking.ui import ui_command

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = None if place.is_server else place.uri
    command, environment = ui_command(open_store(uri, place.folder), EXPERIMENT, port=port)
    before = place.served()
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = psutil.Popen(command, env=environment, start_new_session=True, **silent)
    try:
        deadline = time.monotonic() + 300
        while not answers(f"http://127.0.0.1:{port}/health"):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("expected MLflow's server to answer")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", server, seconds_of_tree(server) + place.served() - before
    finally:
        server.terminate()
        server.wait(timeout=60)


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=10).close()
    except (urllib.error.URLError, OSError):
        return False
    return True


def copy_rows(database: Path, uri: str, folder: Path) -> None:
    """Copies the runs in an SQLite file of MLflow to an empty PostgreSQL database."""
    import sqlalchemy

    from lesion_exp.tracking.store import open_store

    open_store(uri, folder)  # makes the tables
    engine = sqlalchemy.create_engine(uri)
    known = sqlalchemy.MetaData()
    known.reflect(engine, only=COPIED)
    with closing(sqlite3.connect(database)) as source, engine.begin() as target:
        target.execute(known.tables["experiments"].delete())
        for name in COPIED:
            table = known.tables[name]
            is_truth = [isinstance(column.type, sqlalchemy.Boolean) for column in table.columns]
            listed = ", ".join(f'"{column.name}"' for column in table.columns)
            rows = source.execute(f"SELECT {listed} FROM {name}")
            raw = target.connection.cursor()
            with raw.copy(f"COPY {name} ({listed}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row([bool(cell) if truth else cell for cell, truth in zip(row, is_truth, strict=True)])
        last = (
            "SELECT setval(pg_get_serial_sequence('experiments', 'experiment_id'), max(experiment_id)) FROM experiments"
        )
        target.execute(sqlalchemy.text(last))
        target.execute(sqlalchemy.text("ANALYZE"))
    engine.dispose()


def plant(trained: Path, folder: Path, count: int, num_runs: int) -> None:
    """Copies the project `trained`, which has `num_runs` runs, and repeats its sweeps until there are `count`."""
    from lesion_exp.tracking.store import open_store

    shutil.copytree(trained, folder)
    sweeps = sorted((folder / "sweeps").glob("[0-9]*"))
    open_store(None, folder)  # corrects the paths of the artifacts
    copies = count // num_runs - 1
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as store, store:
        for place, sweep in enumerate(sweeps):
            repeat(store, sweep.name, copies, place)
    for place, sweep in enumerate(sweeps):
        facts = (sweep / "sweep.json").read_text().replace(str(trained), str(folder))
        (sweep / "sweep.json").write_text(facts)
        for number in range(copies):
            repeat_ledger(sweep, number, place)


def repeat(store: sqlite3.Connection, sweep: str, copies: int, place: int) -> None:
    """Repeats the rows of the runs of `sweep`, each copy an hour before the one before, with its own learning rate."""
    parent = store.execute(
        "SELECT run_uuid FROM tags WHERE key = 'sweep_id' AND value = ? "
        "AND run_uuid NOT IN (SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId')", (sweep,),
    ).fetchone()[0]  # fmt: skip
    found = store.execute("SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId' AND value = ?", (parent,))
    ids = [parent, *(row[0] for row in found)]
    store.execute("DROP TABLE IF EXISTS copied")
    store.execute("CREATE TEMP TABLE copied (source TEXT, id TEXT PRIMARY KEY, number INTEGER, sweep TEXT)")
    rows = [
        (source, copy_of(source, number), number, sweep_id(number, place)) for number in range(copies) for source in ids
    ]
    store.executemany("INSERT INTO copied VALUES (?, ?, ?, ?)", rows)
    store.execute("CREATE INDEX temp.by_source ON copied (source)")
    own = {
        "run_uuid": "copied.id",
        "start_time": "start_time - 3600000 * (copied.number + 1)",
        "end_time": "end_time - 3600000 * (copied.number + 1)",
        "value": "value * (1 - (copied.number % 97) / 1000.0)",
    }
    for table in ("runs", *TABLES):
        names = [row[1] for row in store.execute(f"PRAGMA table_info({table})")]
        taken = [own[name] if name in own and (name != "value" or "metrics" in table) else name for name in names]
        joined = f"{table} JOIN copied ON {table}.run_uuid = copied.source"
        listed = ", ".join(f'"{name}"' for name in names)
        store.execute(f"INSERT INTO {table} ({listed}) SELECT {', '.join(taken)} FROM {joined}")
    change(store, "tags", "sweep_id", "copied.sweep")
    change(store, "tags", "job_hash", "substr(copied.id, 1, 16)")
    change(store, "params", "optimizer.lr", "CAST(0.001 + copied.number / 1000000.0 AS TEXT)")
    parents = "(SELECT id FROM copied AS other WHERE other.number = copied.number AND other.source = ?)"
    change(store, "tags", "mlflow.parentRunId", parents, parent)


def change(store: sqlite3.Connection, table: str, key: str, value: str, *given: str) -> None:
    """Gives the tag or parameter `key` of each copy the `value`, an expression in SQL."""
    changed = f"UPDATE {table} SET value = {value} FROM copied WHERE run_uuid = copied.id AND key = '{key}'"
    store.execute(changed, given)


def copy_of(run_id: str, number: int) -> str:
    """The id of a copy: two copies of one sweep differ in their first digits."""
    return f"{number:08x}{run_id[:24]}"


def sweep_id(number: int, place: int) -> str:
    """The id of a copy of the sweep that was trained at this place."""
    day = time.gmtime(1_700_000_000 - 3600 * number - place)
    return f"{time.strftime('%Y%m%d-%H%M%S', day)}-{number:04x}"


def repeat_ledger(sweep: Path, number: int, place: int) -> None:
    """Writes the ledger of a copy; jobs and logs are links to those of the sweep."""
    target = sweep.with_name(sweep_id(number, place))
    for path in sorted(sweep.rglob("*")):
        copied = target / path.relative_to(sweep)
        if path.is_dir():
            copied.mkdir(parents=True)
        elif path.name == "sweep.json":
            facts = json.loads(path.read_text())
            facts |= {"sweep_id": target.name, "parent_run_id": copy_of(facts["parent_run_id"], number)}
            copied.write_text(json.dumps(facts))
        elif path.name == "state.json":
            state = json.loads(path.read_text())
            copied.write_text(json.dumps({**state, "run_id": copy_of(state["run_id"], number)}))
        else:
            copied.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, copied)
