"""Measures what a sweep adds to the time of its cells: one-step cells in a sweep, and the same jobs in one process.

    python scripts/benchmark.py sweep --cells 20

Both ways train the same tiny jobs on the same prepared images. Alone, one process that has its imports done calls
`train` for one job after another; the sweep freezes the cells, runs each in a process of its own and keeps its ledger.
`a cell in the sweep` is the time from the start of the second cell to the end of the last, divided by their number;
`overhead` is that minus the same jobs' time alone. `before` passes from the command to the start of the first cell.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

JOB = (
    "experiment=demo", "image_size=32", "dataset.num_lesions=90", "dataset.image_height=48", "dataset.image_width=64",
    "trainer=cpu", "trainer.precision=32-true", "loader.num_workers=0", "evaluation.bootstrap_draws=100",
    "print_config=false", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "test=false",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cells", type=int, default=20, help="cells of the sweep (20)")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="lesion_exp_benchmark_") as folder:
        alone = jobs_alone(Path(folder) / "alone", asked.cells)
        before, cells = in_a_sweep(Path(folder) / "sweep", asked.cells)
    result = {
        "cells": asked.cells,
        "alone_seconds": statistics.mean(alone[1:]),
        "sweep_seconds": cells,
        "overhead_seconds": cells - statistics.mean(alone[1:]),
        "before_first_cell_seconds": before,
    }
    table = Table(title=f"{asked.cells} one-step cells, seconds a cell after the first", title_justify="left")
    for column in ("a cell alone", "a cell in the sweep", "overhead", "before the first cell"):
        table.add_column(column, justify="right")
    names = ("alone_seconds", "sweep_seconds", "overhead_seconds", "before_first_cell_seconds")
    table.add_row(*(f"{result[name]:.2f}" for name in names))
    Console(file=sys.stderr).print(table)
    return result


def jobs_alone(folder: Path, count: int) -> list[float]:
    """Seconds of each job, one after another in this process."""
    from lesion_exp.config.compose import compose
    from lesion_exp.config.freeze import freeze
    from lesion_exp.training.run import train

    folder.mkdir()
    seconds = []
    for seed in range(count):
        begun = time.perf_counter()
        train(freeze(compose([*JOB, f"seed={seed}"], root=folder)))
        seconds.append(time.perf_counter() - begun)
    return seconds


def in_a_sweep(folder: Path, count: int) -> tuple[float, float]:
    """Seconds before the first cell starts, and seconds a cell after it."""
    from lesion_exp.sweeps.ledger import find_sweep

    folder.mkdir()
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    variables.pop("MLFLOW_TRACKING_URI", None)
    begun = time.time()
    command = [sys.executable, "-m", "lesion_exp", "train", "-m", *JOB, f"seed=range(0,{count})"]
    subprocess.run(command, cwd=folder, env=variables, check=True, stdout=subprocess.DEVNULL)
    states = [cell.state() for cell in find_sweep(folder / "sweeps", "latest").cells()]
    started = [state.started for state in states if state.started is not None]
    ended = [state.ended for state in states if state.ended is not None]
    return started[0] - begun, (ended[-1] - started[1]) / (count - 1)
