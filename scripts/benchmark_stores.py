"""Measures commands on stores with many runs: finding a run, comparing two, the state of a sweep, its page and table.

    python scripts/benchmark.py stores [--runs 100 1000 10000] [--rounds 2]

A sweep of four tiny cells is trained once. Each store is a copy of its project in which the rows of its five runs are
repeated in SQLite, with the parameters, tags and metrics that this package writes, under ids of their own, with other
values and earlier times; the ledger of the sweep is repeated likewise. The copies have no artifacts of their own: they
name those of the runs that were trained. A store is left out if making it would take more than five minutes.

Each number is that of a whole process, imports included: the time that it takes, and in brackets the time for which it
uses a processor, which other programs on the machine change little. Commands on stores of different size take turns.
The first rows are `report` of a run: `run=ID` names it by its whole id, which needs no search, so that the difference
to `run=latest` and `run=best:METRIC` is the search. `best, files` is `best:isic/...`, a result that no run has as a
metric, so that the files of all runs are read. `status` and `table` are those of the latest sweep.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmark_rounds import processor_seconds, seconds_of, show, summary, take_turns
from benchmark_start import variables
from benchmark_sweep import JOB

RUNS = 5
"""Runs of the sweep that is trained: four cells and its own."""
MOST_SECONDS = 300.0
"""Longest time in which a store may be made."""
TABLES = ("tags", "params", "metrics", "latest_metrics")
DRAWS = "evaluation.bootstrap_draws=200"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs", type=int, nargs="+", default=[100, 1000, 10000], help="runs of each store (100 1000 10000)"
    )
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each, alternating (2)")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="lesion_exp_benchmark_") as name:
        trained, made = Path(name) / "trained", {}
        trained.mkdir()
        call(trained, "train", "-m", *JOB, "test=true", "loss=cross_entropy,focal", "seed=0,1")
        per_run = 0.0
        for count in sorted(asked.runs):
            if per_run * count > MOST_SECONDS:
                print(f"{count:,} runs are left out: they would take {per_run * count:.0f} s to make", file=sys.stderr)
                continue
            folder = Path(name) / f"runs_{count}"
            print(f"making a store of {count:,} runs ...", file=sys.stderr)
            made[count] = (folder, seconds_of(lambda folder=folder, count=count: plant(trained, folder, count)))
            per_run = made[count][1] / count
        commands = commands_on(trained)
        used: dict[str, list[float]] = {}
        ways = {
            f"{command} {count}": lambda folder=folder, words=words, name=f"{command} {count}": measured(
                folder, words, used.setdefault(name, [])
            )
            for command, words in commands.items()
            for count, (folder, _) in made.items()
        }
        found, processor = summary(take_turns(ways, asked.rounds)), summary(used)
    columns = ["", *(f"{count:,}" for count in made)]
    columns += [f"{count:,} / {min(made):,}" for count in made if count != min(made)]
    rows = []
    for command in commands:
        taken, worked = ([one[f"{command} {count}"]["median"] for count in made] for one in (found, processor))
        rows.append([command, *(f"{wall:.1f} ({cpu:.1f})" for wall, cpu in zip(taken, worked, strict=True))])
        rows[-1] += [f"{cpu / worked[0]:.2f}" for cpu in worked[1:]]
    show("seconds (of a processor) by number of runs, and ratios of the latter", columns, rows)
    return {
        "seconds": {command: {count: found[f"{command} {count}"] for count in made} for command in commands},
        "processor_seconds": {
            command: {count: processor[f"{command} {count}"] for count in made} for command in commands
        },
        "seconds_to_make": {count: seconds for count, (_, seconds) in made.items()},
    }


def commands_on(trained: Path) -> dict[str, tuple[str, ...]]:
    """The commands that are measured, by their names in the table."""
    (sweep,) = (trained / "sweeps").glob("[0-9]*")
    ids = [json.loads(path.read_text())["run_id"] for path in sorted(sweep.glob("cells/*/state.json"))]
    table = ("rows=loss", "metric=test/balanced_accuracy", DRAWS)
    return {
        "run=ID": ("report", f"run={ids[-1]}"),
        "run=latest": ("report", "run=latest"),
        "best, metric": ("report", "run=best:test/accuracy"),
        "compare": ("compare", ids[0], ids[-1], DRAWS),
        "status": ("sweep", "status", "latest"),
        "table": ("table", "sweep=latest", *table),
        "best, files": ("report", "run=best:isic/balanced_accuracy"),
        "page of a sweep": ("report", "sweep=latest"),
        "status, ID": ("sweep", "status", sweep.name),
    }


def measured(folder: Path, words: tuple[str, ...], used: list[float]) -> float:
    """Seconds that a command takes; the seconds in which it used a processor are added to `used`."""
    before = processor_seconds()
    seconds = seconds_of(lambda: call(folder, *words))
    used.append(processor_seconds() - before)
    print(f"{seconds:.2f} s, {used[-1]:.2f} s of a processor", file=sys.stderr, flush=True)
    return seconds


def call(folder: Path, *words: str) -> None:
    command = [sys.executable, "-m", "lesion_exp", *words]
    subprocess.run(command, cwd=folder, env=variables(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def plant(trained: Path, folder: Path, count: int) -> None:
    """Copies the project `trained` to `folder`, and repeats its sweep until there are `count` runs."""
    from lesion_exp.tracking.store import open_store

    shutil.copytree(trained, folder)
    (sweep,) = (folder / "sweeps").glob("[0-9]*")
    facts = (sweep / "sweep.json").read_text().replace(str(trained), str(folder))
    (sweep / "sweep.json").write_text(facts)
    open_store(None, folder)  # corrects the paths of the artifacts
    copies = count // RUNS - 1
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as store, store:
        repeat(store, sweep.name, copies)
    for number in range(copies):
        repeat_ledger(sweep, number)


def repeat(store: sqlite3.Connection, sweep: str, copies: int) -> None:
    """Repeats the rows of the runs of `sweep`, each copy an hour before the one before."""
    found = store.execute("SELECT run_uuid FROM tags WHERE key = 'sweep_id' AND value = ?", (sweep,))
    ids = [row[0] for row in found]
    assert len(ids) == RUNS, "the runs of the sweep"
    store.execute("CREATE TEMP TABLE copied (source TEXT, id TEXT PRIMARY KEY, number INTEGER, sweep TEXT)")
    rows = [(source, copy_of(source, number), number, sweep_id(number)) for number in range(copies) for source in ids]
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
    set_tag(store, "sweep_id", "copied.sweep")
    set_tag(store, "job_hash", "substr(copied.id, 1, 16)")
    parent = next(source for source in ids if not has_parent(store, source))
    parents = "(SELECT id FROM copied AS other WHERE other.number = copied.number AND other.source = ?)"
    set_tag(store, "mlflow.parentRunId", parents, parent)


def set_tag(store: sqlite3.Connection, key: str, value: str, *given: str) -> None:
    """Gives the tag `key` of each copy the `value`, an expression in SQL."""
    store.execute(f"UPDATE tags SET value = {value} FROM copied WHERE run_uuid = copied.id AND key = '{key}'", given)


def has_parent(store: sqlite3.Connection, run_id: str) -> bool:
    asked = "SELECT 1 FROM tags WHERE run_uuid = ? AND key = 'mlflow.parentRunId'"
    return store.execute(asked, (run_id,)).fetchone() is not None


def copy_of(run_id: str, number: int) -> str:
    """The id of a copy: two copies of one sweep differ in their first digits."""
    return f"{number:08x}{run_id[:24]}"


def sweep_id(number: int) -> str:
    day = time.gmtime(1_700_000_000 - 3600 * number)
    return f"{time.strftime('%Y%m%d-%H%M%S', day)}-{number:04x}"


def repeat_ledger(sweep: Path, number: int) -> None:
    """Writes the ledger of a copy; jobs and logs are links to those of the sweep."""
    target = sweep.with_name(sweep_id(number))
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
