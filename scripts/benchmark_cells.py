"""Measures what a sweep of many cells costs beside their training: composing, ledger, driver, status and memory.

    python scripts/benchmark.py cells [--cells 100 1000]

Each size is measured in a process of its own, which has its imports done:

- plan: composing and freezing all cells; check: checking that each can start, and reading the data once; ledger:
  writing the folders of the cells;
- a cell: what the driver does for one cell, as the mean of the first and of the last 50 cells;
- end: the tables and the comparison of all choices, and closing the sweep's run;
- memory: by how much the process grows while it drives the sweep; objects: how many more Python objects it has then;
- status: the command `sweep status` as a whole process.

Beside each time, in brackets, is the time for which it uses a processor, which other programs on the machine change
little.

No cell is trained. A cell takes no time here and writes to the ledger what the process of a cell writes: that it runs,
and that it has finished with a result. What is left out is the process of the cell, its training and its run in MLflow;
`python scripts/benchmark.py sweep` measures these. The store has no runs of cells, and each cell is looked up in
it. The cells are learning rates with ten seeds each.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.queues import Queue
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark_rounds import processor_seconds, seconds_of, show
from benchmark_scale import anonymous_mb
from benchmark_start import variables
from benchmark_sweep import JOB

if TYPE_CHECKING:
    from lesion_exp.sweeps.cell import Cell
    from lesion_exp.sweeps.plan import SweepPlan

SEEDS = 10
SHOWN = 50
"""Cells at the beginning and at the end whose times are shown."""
ROWS = {
    "plan": "plan, s",
    "check": "check, s",
    "ledger": "ledger, s",
    "first": f"a cell, first {SHOWN}, ms",
    "last": f"a cell, last {SHOWN}, ms",
    "end": "end, s",
    "status": "status, s",
}
"""The times of a result, and their titles."""
MORE_ROWS = {"memory_mb": "memory, MB", "objects": "objects"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cells", type=int, nargs="+", default=[100, 1000], help="numbers of cells (100 1000)")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    found = []
    for count in asked.cells:
        with tempfile.TemporaryDirectory(prefix="lesion_exp_benchmark_") as name:
            folder = Path(name)
            answers: Queue[dict[str, float]] = context.Queue()
            child = context.Process(target=measure, args=(folder, count, answers))
            child.start()
            result = answers.get()
            child.join()
            before = processor_seconds()
            result["status_seconds"] = seconds_of(lambda folder=folder: call(folder, "sweep", "status"))
            result["status_processor"] = processor_seconds() - before
            found.append(result)
    rows = [
        [title, *(f"{one[f'{name}_seconds']:.1f} ({one[f'{name}_processor']:.1f})" for one in found)]
        for name, title in ROWS.items()
    ]
    rows += [[title, *(f"{one[name]:,.0f}" for one in found)] for name, title in MORE_ROWS.items()]
    show("a sweep without training", ["what", *(f"{one['cells']:,} cells" for one in found)], rows)
    return {"cells": found}


def call(folder: Path, *words: str) -> None:
    command = [sys.executable, "-m", "lesion_exp", *words]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command, cwd=folder, env=variables(), check=True, **silent)


def measure(folder: Path, count: int, answers: Queue[dict[str, float]]) -> None:
    """Plans, writes and drives a sweep of `count` cells in `folder`."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    from lesion_exp.sweeps.driver import drive
    from lesion_exp.sweeps.launcher.launcher import Ended, Launcher
    from lesion_exp.sweeps.ledger import Sweep, create_sweep
    from lesion_exp.sweeps.plan import plan_sweep

    class NoTraining(Launcher):
        """Cells that have finished as soon as they are waited for."""

        fail_fast, capacity = False, 1

        def __init__(self) -> None:
            self.waiting: list[Cell] = []
            self.times: list[tuple[float, float]] = []

        def open(self, sweep: Sweep) -> None:
            pass

        def start(self, cells: Sequence[Cell]) -> None:
            self.times.append(clocks())
            self.waiting += cells

        def wait(self, seconds: float) -> list[Ended]:
            if not self.waiting:
                return []
            cell = self.waiting.pop()
            cell.write(status="running", attempts=1, host=os.uname().nodename, pid=os.getpid(), started=time.time())
            value = 0.5 + (cell.number * 37 % 100) / 1000
            metrics = {"best/val/balanced_accuracy": value, "best/val/loss": 1 - value}
            cell.write(status="finished", ended=time.time(), run_id=f"{cell.number:032x}", metrics=metrics)
            return [Ended(cell)]

        def stop(self) -> None:
            self.waiting.clear()

        def close(self) -> None:
            pass

    def planned(words: list[str]) -> tuple[SweepPlan, dict[str, float]]:
        begun = clocks()
        plan = plan_sweep([*JOB, *words], root=folder, force=False)
        assert plan is not None, "it has several cells"
        composed = clocks()
        plan.check()
        return plan, {**between("plan", begun, composed), **between("check", composed, clocks())}

    small, _ = planned(["seed=0,1", "optimizer.lr=0.1,0.2"])
    folders = small.first_cell.project
    drive(create_sweep(folders.sweeps, small.facts, small.cells, []), NoTraining(), folders.store)  # imports, tables
    time.sleep(1.1)  # the ids of sweeps are sorted by the second
    rates = [f"{0.001 * (number + 1):.4g}" for number in range(count // SEEDS)]
    plan, result = planned([f"optimizer.lr={','.join(rates)}", f"seed=range(0,{SEEDS})"])
    project, begun = plan.first_cell.project, clocks()
    sweep = create_sweep(project.sweeps, plan.facts, plan.cells, [])
    result |= between("ledger", begun, clocks())
    launcher, store = NoTraining(), project.store
    gc.collect()
    memory, objects = anonymous_mb(), len(gc.get_objects())
    grown: list[float] = []

    def close() -> None:
        gc.collect()
        grown.extend((anonymous_mb() - memory, len(gc.get_objects()) - objects))

    launcher.close = close
    drive(sweep, launcher, store)
    result |= between("end", launcher.times[-1], clocks())
    for name, times in (("first", launcher.times[: SHOWN + 1]), ("last", launcher.times[-SHOWN - 1 :])):
        spent = between(name, times[0], times[-1])
        result |= {key: 1000 * seconds / (len(times) - 1) for key, seconds in spent.items()}
    answers.put({"cells": count, **result, "memory_mb": grown[0], "objects": grown[1]})


def clocks() -> tuple[float, float]:
    """Seconds on the clock, and seconds for which this process has used a processor."""
    return time.perf_counter(), time.process_time()


def between(name: str, begun: tuple[float, float], ended: tuple[float, float]) -> dict[str, float]:
    """The two times between two readings of `clocks`, under `name`."""
    return {f"{name}_seconds": ended[0] - begun[0], f"{name}_processor": ended[1] - begun[1]}
