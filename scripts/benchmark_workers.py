"""Measures what the cells of a sweep that run at once cost each other (`launcher.workers`).

    python scripts/benchmark.py workers --cells 4 --rounds 2

The same cells, each a training of a ResNet-18 at 96 pixels on generated lesions, run in whole sweeps, in turns:

- one after another, each on all cores;
- as many at once as there are cores (or `--workers`), each with its share of the cores;
- one after another on a single core and alone on the machine: what a cell that has one core takes if no other cell
  disturbs it.

`a cell` is the mean time from the start of a cell to its end, and `cells a minute` counts from the start of the first
cell to the end of the last. `cost` is the time of a cell beside others over that of a cell alone on one core.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark_rounds import show, with_ends
from benchmark_start import variables

from lesion_exp.cores import usable_cores

JOB = (
    "experiment=demo", "backbone=resnet18", "image_size=96", "dataset.num_lesions=240", "trainer=cpu",
    "trainer.max_epochs=2", "loader.batch_size=32", "evaluation.bootstrap_draws=100", "print_config=false",
    "test=false",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cells", type=int, default=4, help="cells of each sweep (4)")
    parser.add_argument("--rounds", type=int, default=2, help="sweeps of each kind, in turns (2)")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="cells at once (as many as cores)")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    every = sorted(os.sched_getaffinity(0))
    at_once = f"{asked.workers} at once"
    ways = {"one at a time": (1, every), at_once: (asked.workers, every), "alone on one core": (1, every[:1])}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory(prefix="lesion_exp_benchmark_") as name:
        folder = Path(name)
        sweep(folder, 1, 2, every)  # prepares the images
        for number in range(asked.rounds):
            for way, (workers, cores) in ways.items():
                print(f"round {number + 1}, {way} ...", file=sys.stderr)
                found[way].append(sweep(folder, workers, asked.cells, cores))
    seconds = {way: [cell for cell, _ in values] for way, values in found.items()}
    rates = {way: [60 * asked.cells / whole for _, whole in values] for way, values in found.items()}
    cost = statistics.median(seconds[at_once]) / statistics.median(seconds["alone on one core"])
    show(
        f"sweeps of {asked.cells} cells",
        ["", "a cell, s", "cells a minute"],
        [[way, with_ends(seconds[way], 1), with_ends(rates[way], 2)] for way in ways] + [["cost", f"{cost:.2f}", ""]],
    )
    return {"cell_seconds": seconds, "cells_a_minute": rates, "cost": cost}


def sweep(folder: Path, workers: int, cells: int, cores: Sequence[int]) -> tuple[float, float]:
    """Mean seconds of a cell, and seconds from the first cell's start to the last one's end."""
    from lesion_exp.sweeps.ledger import find_sweep

    time.sleep(1.1)  # the ids of sweeps are sorted by the second
    words = [*JOB, f"seed=range(0,{cells})", f"launcher.workers={workers}", "force=true"]
    subprocess.run(
        [sys.executable, "-m", "lesion_exp", "train", "-m", *words],
        cwd=folder,
        env=_without_threads(variables()),
        check=True,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    states = [cell.state() for cell in find_sweep(folder / "sweeps", "latest").cells()]
    times = [(state.started, state.ended) for state in states if state.started is not None and state.ended is not None]
    whole = max(ended for _, ended in times) - min(started for started, _ in times)
    return statistics.mean(ended - started for started, ended in times), whole


def _without_threads(environment: Mapping[str, str]) -> dict[str, str]:
    """Without a number of threads that the user has set for the benchmark itself."""
    return {name: value for name, value in environment.items() if name != "OMP_NUM_THREADS"}
