"""Kills a sweep of 24 cells, two of which must fail, at random moments and resumes it each time.

    python scripts/endurance.py sweep --kills 10 --workers 2

Each time the process that drives the sweep and everything that it started get SIGKILL. In the end 22 cells must have
finished once each, in one MLflow run a cell, two must have failed with their errors, and no run may be left RUNNING.
Prints a row for each attempt; exits with 1 if something is lost, doubled or not as it should be.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from endurance_process import kill_all, start

JOB = (
    "experiment=demo", "image_size=32", "dataset.num_lesions=90", "dataset.image_height=48", "dataset.image_width=64",
    "trainer=cpu", "trainer.precision=32-true", "loader.num_workers=0", "evaluation.bootstrap_draws=100",
    "print_config=false", "trainer.max_epochs=3",
)  # fmt: skip
RATES = (*(f"{0.001 * step:.3f}" for step in range(1, 12)), "1e30")
"""With the last learning rate the loss is NaN after a step, and training fails with a message."""
GRID = (f"optimizer.lr={','.join(RATES)}", "loss=cross_entropy,focal")
WANTED = {"finished": 22, "failed": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=10, help="times that everything is killed (10)")
    parser.add_argument("--workers", type=int, default=2, help="cells that run at once (2)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")


def run(asked: argparse.Namespace) -> int:
    draws = random.Random(asked.seed)
    with tempfile.TemporaryDirectory(prefix="lesion_exp_endurance_") as name:
        folder = Path(name)
        first = ["train", "-m", *JOB, *GRID, f"launcher.workers={asked.workers}"]
        print(f"{'attempt':>7} {'seconds':>8} {'finished':>9} {'failed':>7} {'queued':>7}")
        begun = time.monotonic()
        for attempt in range(asked.kills + 1):
            arguments = first if attempt == 0 else ["sweep", "resume"]
            process = start(folder, arguments)
            if attempt < asked.kills:
                wait_until_begun(folder, process)
                time.sleep(draws.uniform(0.5, 10.0))
                kill_all(process)
            process.wait()
            counts = status(folder)["counts"]
            row = [counts.get(key, 0) for key in ("finished", "failed", "queued")]
            print(f"{attempt:>7} {time.monotonic() - begun:>8.0f} {row[0]:>9} {row[1]:>7} {row[2]:>7}", flush=True)
        return judge(folder, status(folder), process.returncode)


def wait_until_begun(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Waits until a cell runs, or the process has ended."""
    begun = time.time()
    while process.poll() is None:
        if any(path.stat().st_mtime > begun for path in folder.glob("sweeps/*/cells/*/state.json")):
            return
        time.sleep(0.1)


def status(folder: Path) -> dict[str, object]:
    command = [sys.executable, "-m", "lesion_exp", "sweep", "status", "--json"]
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def judge(folder: Path, found: dict[str, object], code: int) -> int:
    from lesion_exp.tracking.store import open_store

    store = open_store(None, folder, folder / "mlruns" / "live")
    runs = store.client.search_runs(store.experiment_ids(), f"tags.sweep_id = '{found['sweep_id']}'", max_results=1000)
    by_cell = collections.Counter(run.data.tags["sweep_cell"] for run in runs if "sweep_cell" in run.data.tags)
    states = collections.Counter(run.info.status for run in runs if "sweep_cell" in run.data.tags)
    failed = [cell for cell in found["cells"] if cell["status"] == "failed"]
    faults = {
        "cells finished": (found["counts"].get("finished"), WANTED["finished"]),
        "cells failed": (len(failed), WANTED["failed"]),
        "failed cells with an error": (sum(bool(cell["error"]) for cell in failed), len(failed)),
        "most runs of a cell": (max(by_cell.values()), 1),
        "runs FINISHED": (states["FINISHED"], WANTED["finished"]),
        "runs RUNNING": (states["RUNNING"], 0),
        "exit code": (code, 1),
    }
    print()
    for name, (value, wanted) in faults.items():
        print(f"{name:<28} {value!s:>5}   {'ok' if value == wanted else f'expected {wanted}'}")
    return int(any(value != wanted for value, wanted in faults.values()))
