"""Starts, logs and finishes runs on one store in many processes at once; nothing may fail, be lost or be doubled.

    python scripts/endurance.py writers --times 5
    python scripts/endurance.py writers --times 5 --uri http://127.0.0.1:5000

Without --uri each round has a fresh embedded store, which the processes make all at once. Prints a table with a row for
each round: the longest time from the common start to the end of a run and the longest call that logs metrics. Exits
with 1 if anything failed, is missing or doubled.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
import traceback
import uuid
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

METRICS = ("train/loss", "val/balanced_accuracy")
TITLE = "{:<6} {:>7} {:>6} {:>7} {:>7} {:>6} {:>9} {:>9}"
ARTIFACT = "notes/writer.txt"


@dataclass(frozen=True)
class Outcome:
    """The result of one writer."""

    run_id: str
    seconds: float
    """From the moment that all writers start to the end of the run."""
    blocked: float
    """Seconds of the longest call that logs metrics."""
    unsent: bool
    error: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this test."""
    parser.add_argument("--processes", type=int, default=16, help="writers at once (16)")
    parser.add_argument("--times", type=int, default=5, help="rounds (5)")
    parser.add_argument("--points", type=int, default=200, help="metric points of a writer (200)")
    parser.add_argument("--uri", help="a server or database; without it, a fresh embedded store for each round")


def run(asked: argparse.Namespace) -> int:
    """Runs the rounds; returns 1 if anything failed, is missing or is doubled."""
    print(TITLE.format("round", "writers", "failed", "missing", "doubled", "unsent", "slowest", "blocked"), flush=True)
    bad = 0
    for number in range(1, asked.times + 1):
        bad += one_round(number, asked.processes, asked.points, asked.uri)
    return 1 if bad else 0


def one_round(number: int, processes: int, points: int, uri: str | None) -> int:
    with tempfile.TemporaryDirectory(prefix="writers_") as folder:
        experiment = f"writers {uuid.uuid4().hex[:8]}"
        outcomes = write_at_once(Path(folder), uri, experiment, processes, points)
        for outcome in outcomes:
            if outcome.error:
                print(outcome.error, file=sys.stderr)
        missing, doubled = verify(Path(folder), uri, experiment, outcomes, processes, points)
    failed = sum(bool(outcome.error) for outcome in outcomes)
    unsent = sum(outcome.unsent for outcome in outcomes)
    slowest, blocked = (max(getattr(outcome, name) for outcome in outcomes) for name in ("seconds", "blocked"))
    print(
        f"{number:<6} {processes:>7} {failed:>6} {missing:>7} {doubled:>7} {unsent:>6} {slowest:>7.1f} s "
        f"{blocked * 1000:>6.1f} ms",
        flush=True,
    )
    return failed + missing + doubled + unsent


def write_at_once(root: Path, uri: str | None, experiment: str, processes: int, points: int) -> list[Outcome]:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    queue = context.Queue()
    writers = [
        context.Process(target=write, args=(root, uri, experiment, index, points, barrier, queue))
        for index in range(processes)
    ]
    for writer in writers:
        writer.start()
    outcomes = [queue.get(timeout=900) for _ in writers]
    for writer in writers:
        writer.join()
    return outcomes


def write(
    root: Path, uri: str | None, experiment: str, index: int, points: int, barrier: Barrier,
    queue: multiprocessing.Queue[Outcome],
) -> None:  # fmt: skip
    """One writer: a run with `points` metric points and an artifact."""
    from lesion_exp.tracking.run import TrackedRun
    from lesion_exp.tracking.store import open_store, quiet_mlflow

    quiet_mlflow()
    import mlflow  # noqa: F401  (seconds, which would spread the writers)

    barrier.wait()
    began = time.monotonic()
    run_id, blocked, unsent, error = "", 0.0, False, ""
    try:
        options = {"flush_seconds": 1.0, "system_metrics_seconds": 0}
        run = TrackedRun.start(open_store(uri, root), experiment, f"writer {index}", params={"index": index}, **options)
        run_id = run.run_id
        with run:
            for step in range(points // len(METRICS)):
                before = time.monotonic()
                run.log_metrics({name: value(index, step) for name in METRICS}, step)
                blocked = max(blocked, time.monotonic() - before)
                time.sleep(0.005)
            run.log_text(f"writer {index}\n", ARTIFACT)
        unsent = run.unsent
    except BaseException:
        error = traceback.format_exc()
    queue.put(Outcome(run_id, time.monotonic() - began, blocked, unsent, error))


def value(index: int, step: int) -> float:
    return 1 / (1 + step) + index


def verify(
    root: Path, uri: str | None, experiment: str, outcomes: list[Outcome], processes: int, points: int
) -> tuple[int, int]:
    """Counts missing points, parameters, artifacts and final states, and doubled points and runs."""
    from lesion_exp.tracking.find import find_run
    from lesion_exp.tracking.store import open_store
    from lesion_exp.tracking.stored_run import download_artifact

    store = open_store(uri, root)
    runs = store.client.search_runs([store.experiment_id(experiment)], max_results=1000)
    missing, doubled = max(0, processes - len(runs)), max(0, len(runs) - processes)
    for outcome in outcomes:
        if not outcome.run_id:
            continue
        run = find_run(store, outcome.run_id)
        index = int(run.params.get("index", -1))
        missing += (run.status != "FINISHED") + (index < 0)
        expected = {(step, value(index, step)) for step in range(points // len(METRICS))}
        for name in METRICS:
            stored = [(point.step, point.value) for point in store.client.get_metric_history(run.run_id, name)]
            missing += len(expected - set(stored))
            doubled += len(stored) - len(set(stored))
        missing += download_artifact(run, ARTIFACT).read_text() != f"writer {index}\n"
    return missing, doubled
