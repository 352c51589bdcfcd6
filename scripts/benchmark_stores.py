"""Measures commands on stores with many runs: finding a run, comparing two, the state of a sweep, its page and table.

    python scripts/benchmark.py stores [--runs 100 1000 10000] [--rounds 2] [--backend sqlite postgresql server]

A sweep of four tiny cells and one of two folds are trained once. Each store is a copy of their project in which the
rows of their runs are repeated in SQLite, with the parameters, tags and metrics that this package writes, under ids of
their own, with other values and earlier times; the ledgers of the sweeps are repeated likewise. The copies have no
artifacts of their own: they name those of the runs that were trained. A store is left out if making it would take more
than five minutes.

`--backend postgresql` copies these rows to a PostgreSQL server for each store, which this program starts and ends.
`--backend server` gives the commands the address of an MLflow server on the SQLite file. Its artifacts are in folders
of this machine, which the commands read without the server.

Each number is that of a whole process, imports included: the time that it takes, and in brackets the time for which it
uses a processor, which other programs on the machine change little. The time for which servers use a processor
meanwhile follows a plus sign. Commands on stores of different size take turns.
The first rows are `report` of a run: `run=ID` names it by its whole id, which needs no search, so that the difference
to `run=latest` and `run=best:METRIC` is the search. `best, files` is `best:isic/...`, a result that no run has as a
metric, so that a file of each run is read. `status` and `table` are those of the latest sweep, `folds` evaluates the
cross-validation of a run. `a run` is no command: a process that has its imports done opens the store, starts a run
with the tags and parameters of another one, logs a metric and ends the run.

`page, start` and `page, requests` are MLflow's page (`lesion-exp ui`): the time for which processors are used until its
server answers, and by a request for the first hundred rows of its table of runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmark_rounds import processor_seconds, seconds_of, show, summary, take_turns
from benchmark_sweep import JOB
from planted_stores import BACKENDS, EXPERIMENT, Place, opened, page_server, plant, seconds_of_tree

SWEEPS = (("split=kfold", "split.num_folds=2", "split.fold=0,1"), ("loss=cross_entropy,focal", "seed=0,1"))
"""What distinguishes the cells of the sweeps that are trained; the last one is the latest one."""
MOST_SECONDS = 300.0
"""Longest time in which a store may be made."""
DRAWS = "evaluation.bootstrap_draws=200"
A_RUN = "a run"
START, REQUEST = "page, start", "page, requests"
REQUESTS = 5
"""How often the request of MLflow's page is repeated."""
ROWS_OF_PAGE = 100
"""Runs that MLflow's page asks for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs", type=int, nargs="+", default=[100, 1000, 10000], help="runs of each store (100 1000 10000)"
    )
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each, alternating (2)")
    parser.add_argument(
        "--backend", nargs="+", choices=BACKENDS, default=["sqlite"], help="where the runs are stored (sqlite)"
    )
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="names of the rows to measure (all)")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="lesion_exp_benchmark_") as name:
        trained = Path(name) / "trained"
        trained.mkdir()
        for words in SWEEPS:
            call(Place(trained), "train", "-m", *JOB, "test=true", *words)
        commands = commands_on(trained)
        made = planted(trained, Path(name), sorted(asked.runs))
        rows = [row for row in (*commands, A_RUN, START, REQUEST) if row in (asked.rows or (row,))]
        results: dict[str, Any] = {"seconds_to_make": {count: seconds for count, (_, seconds) in made.items()}}
        for backend in asked.backend:
            with ExitStack() as servers:
                places = {count: servers.enter_context(opened(backend, folder)) for count, (folder, _) in made.items()}
                results[backend] = measure(backend, places, commands, rows, asked.rounds)
    return results


def measure(
    backend: str, places: dict[int, Place], commands: dict[str, tuple[str, ...]], rows: list[str], rounds: int
) -> dict[str, Any]:
    """Measures the `rows` of the table in stores of one kind, and shows it."""
    used: dict[str, list[tuple[float, float]]] = {}
    timed = [row for row in rows if row not in (START, REQUEST)]
    ways = {
        f"{row} {count}": lambda place=place, row=row, name=f"{row} {count}": measured(
            place, commands.get(row, ()), used.setdefault(name, [])
        )
        for row in timed
        for count, place in places.items()
    }
    wall = summary(take_turns(ways, rounds))
    own, served = (summary({name: [pair[part] for pair in used[name]] for name in used}) for part in (0, 1))
    of_pages = [row for row in rows if row not in timed]
    pages = {count: page_of(place) for count, place in places.items()} if of_pages else {}
    counts = list(places)
    shown = [[row, *cells(row, counts, wall, own, served)] for row in timed]
    for row in of_pages:
        found = [pages[count][row] for count in counts]
        shown.append([row, *(f"{taken:.2f}" for taken in found), *(f"{taken / found[0]:.2f}" for taken in found[1:])])
    columns = ["", *(f"{count:,}" for count in counts), *(f"{count:,} / {counts[0]:,}" for count in counts[1:])]
    show(f"{backend}: seconds (of a processor) by number of runs, and ratios of the latter", columns, shown)
    return {
        "seconds": by_row(wall, timed, counts),
        "processor_seconds": by_row(own, timed, counts),
        "processor_seconds_of_servers": by_row(served, timed, counts),
        "processor_seconds_of_page": {row: {count: pages[count][row] for count in counts} for row in of_pages},
    }


def by_row(found: dict[str, Any], rows: list[str], counts: list[int]) -> dict[str, Any]:
    return {row: {count: found[f"{row} {count}"] for count in counts} for row in rows}


def cells(row: str, counts: list[int], *measures: dict[str, Any]) -> list[str]:
    """The cells of a row: the seconds for each number of runs, then the ratios of processor seconds."""
    wall, own, served = ([found[f"{row} {count}"]["median"] for count in counts] for found in measures)
    sums = [mine + theirs for mine, theirs in zip(own, served, strict=True)]
    seconds = [
        f"{taken:.1f} ({mine:.2f}{f' + {theirs:.2f}' if any(served) else ''})"
        for taken, mine, theirs in zip(wall, own, served, strict=True)
    ]
    return [*seconds, *(f"{later / sums[0]:.2f}" for later in sums[1:])]


def planted(trained: Path, folder: Path, counts: list[int]) -> dict[int, tuple[Path, float]]:
    """Makes a project for each number of runs; returns its folder, and the seconds that it took."""
    made: dict[int, tuple[Path, float]] = {}
    num_runs, per_run = len(runs_of(Place(trained))), 0.0
    for count in counts:
        if per_run * count > MOST_SECONDS:
            print(f"{count:,} runs are left out: they would take {per_run * count:.0f} s to make", file=sys.stderr)
            continue
        target = folder / f"runs_{count}"
        print(f"making a store of {count:,} runs ...", file=sys.stderr)
        made[count] = (target, seconds_of(lambda target=target, count=count: plant(trained, target, count, num_runs)))
        per_run = made[count][1] / count
    return made


def runs_of(place: Place) -> list[Any]:
    """The latest runs of a store."""
    from lesion_exp.tracking.store import open_store

    store = open_store(place.uri, place.folder)
    return list(store.client.search_runs(store.experiment_ids(), max_results=ROWS_OF_PAGE))


def commands_on(trained: Path) -> dict[str, tuple[str, ...]]:
    """The commands that are measured, by their names in the table."""
    folds, sweep = sorted((trained / "sweeps").glob("[0-9]*"))
    fold, ids = run_ids(folds)[0], run_ids(sweep)
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
        "folds": ("evaluate", f"run=folds:{fold}", DRAWS),
    }


def run_ids(sweep: Path) -> list[str]:
    """The runs of the cells of a sweep."""
    return [json.loads(path.read_text())["run_id"] for path in sorted(sweep.glob("cells/*/state.json"))]


def measured(place: Place, words: tuple[str, ...], used: list[tuple[float, float]]) -> float:
    """Seconds that a command takes, or a run without `words`.

    The seconds for which it uses a processor, and those for which its servers do, are added to `used`.
    """
    before, served = processor_seconds(), place.served()
    if words:
        seconds = seconds_of(lambda: call(place, *words))
        used.append((processor_seconds() - before, place.served() - served))
    else:
        command = [sys.executable, "-c", f"import benchmark_stores; benchmark_stores.one_run({str(place.folder)!r})"]
        done = subprocess.run(
            command, cwd=Path(__file__).parent, env=place.variables(), check=True, stdout=subprocess.PIPE
        )
        seconds, own = json.loads(done.stdout)
        used.append((own, place.served() - served))
    print(f"{seconds:.2f} s, {used[-1][0]:.2f} s and {used[-1][1]:.2f} s of a processor", file=sys.stderr, flush=True)
    return seconds


def one_run(folder: str) -> None:
    """Starts and ends a run in the store of the environment; prints its seconds, and those of a processor, as JSON."""
    import time

    import mlflow  # noqa: F401

    from lesion_exp.tracking.run import TrackedRun
    from lesion_exp.tracking.store import open_store

    place = Place(Path(folder))
    known = open_store(None, place.folder).client.search_runs([EXPERIMENT], "tags.kind = 'train'", max_results=1)[0]
    tags = {name: text for name, text in known.data.tags.items() if not name.startswith("mlflow.")}
    tags["kind"] = "preview"  # so that `latest` is none of these runs
    began, used = time.perf_counter(), time.process_time()
    store = open_store(None, place.folder)
    with TrackedRun.start(store, "measured", "a run", tags, system_metrics_seconds=0) as written:
        written.log_params(known.data.params)
        written.log_metrics({"train/loss": 1.0}, 0)
    assert not written.unsent
    print(json.dumps([time.perf_counter() - began, time.process_time() - used]))


def call(place: Place, *words: str) -> None:
    command = [sys.executable, "-m", "lesion_exp", *words]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    subprocess.run(command, cwd=place.folder, env=place.variables(), check=True, **silent)


def page_of(place: Place) -> dict[str, float]:
    """Seconds of processors for the start of MLflow's page, and for a request that fills its table of runs."""
    from lesion_exp.tracking.view import table_state

    state = table_state()
    body = {
        "experiment_ids": [EXPERIMENT],
        "filter": state["searchFilter"],
        "order_by": [f"{state['orderByKey']} {'ASC' if state['orderByAsc'] else 'DESC'}"],
        "run_view_type": "ACTIVE_ONLY",
        "max_results": ROWS_OF_PAGE,
    }
    with page_server(place) as (address, server, start):
        taken = []
        for _ in range(REQUESTS):
            before = seconds_of_tree(server) + place.served()
            asked = urllib.request.Request(
                f"{address}/ajax-api/2.0/mlflow/runs/search",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(asked, timeout=300) as answer:
                assert json.load(answer)["runs"]
            taken.append(seconds_of_tree(server) + place.served() - before)
    return {START: start, REQUEST: statistics.median(taken)}
