"""Measures what two cells of a sweep cost each other: one after the other, at once, and as two commands at once.

    python scripts/benchmark.py together --rounds 2

Two cells train a ResNet-18 on the same generated images, in turns of the three ways, with the defaults of each:

- one after the other: `launcher.workers=1`; a cell has all cores;
- at once: `launcher.workers=2`; each cell has half of the cores;
- two commands at once: `lesion-exp train` twice at the same time, without a sweep; each has all cores.

`clock` is the time from the start of the first cell to the end of the last; `processor` that for which all processes
used one, of a whole command, with its imports. On a machine with other work compare the processor's seconds: a program
that runs two processes gets more of such a machine than one that runs one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark_rounds import processor_seconds, show, spread_of, summary

JOB = (
    "experiment=demo", "backbone=resnet18", "image_size=64", "dataset.num_lesions=60", "dataset.image_height=80",
    "dataset.image_width=100", "trainer=cpu", "evaluation.bootstrap_draws=100", "print_config=false",
    "loader.batch_size=32", "sampler=oversample", "trainer.max_epochs=1", "test=false",
)  # fmt: skip
COMMAND = (sys.executable, "-m", "lesion_exp", "train")
ALONE, AT_ONCE, COMMANDS = "one after the other", "at once", "two commands at once"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=40, help="training steps of a cell (40)")
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each way, alternating (2)")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, dict[str, list[float]]] = {"clock": {}, "processor": {}}
    with tempfile.TemporaryDirectory(prefix="lesion_exp_benchmark_") as name:
        folder = Path(name)
        job = [*JOB, f"sampler.samples_per_class={16 * asked.steps}", f"paths.data_cache={folder / 'cache'}"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        for variable in ("MLFLOW_TRACKING_URI", "OMP_NUM_THREADS"):
            environment.pop(variable, None)
        subprocess.run(
            [*COMMAND[:-1], "prepare", *job], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
        )
        ways: dict[str, Callable[[Path], float]] = {
            ALONE: lambda place: sweep(place, job, 1, environment),
            AT_ONCE: lambda place: sweep(place, job, 2, environment),
            COMMANDS: lambda place: commands(place, job, environment),
        }
        for number in range(asked.rounds):
            for way, measure in ways.items():
                print(f"round {number + 1}, {way} ...", file=sys.stderr)
                place = folder / f"{number} {way}"
                place.mkdir()
                before = processor_seconds()
                found["clock"].setdefault(way, []).append(measure(place))
                found["processor"].setdefault(way, []).append(processor_seconds() - before)
    result = {kind: summary(values) for kind, values in found.items()}
    show(
        f"two cells of {asked.steps} steps, seconds",
        ["way", "clock", "spread", "processor", "spread"],
        [
            [
                way,
                *(
                    text
                    for kind in ("clock", "processor")
                    for text in (f"{result[kind][way]['median']:.1f}", spread_of(result[kind][way], 1))
                ),
            ]
            for way in ways
        ],
    )
    return {"seconds": result}


def sweep(place: Path, job: list[str], workers: int, environment: dict[str, str]) -> float:
    """Seconds from the start of the first cell to the end of the last."""
    from lesion_exp.sweeps.ledger import find_sweep

    subprocess.run(
        [*COMMAND, "-m", *job, "seed=1,2", f"launcher.workers={workers}"],
        cwd=place, env=environment, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    states = [cell.state() for cell in find_sweep(place / "sweeps", "latest").cells()]
    started = [state.started for state in states if state.started is not None]
    ended = [state.ended for state in states if state.ended is not None]
    return max(ended) - min(started)


def commands(place: Path, job: list[str], environment: dict[str, str]) -> float:
    """Seconds of two commands that are started at the same time, with their imports."""
    begun = time.perf_counter()
    both = [
        subprocess.Popen([*COMMAND, *job, f"seed={seed}"], cwd=place, env=environment, stdout=subprocess.DEVNULL)
        for seed in (1, 2)
    ]
    codes = [process.wait() for process in both]
    if any(codes):
        raise RuntimeError(f"expected two trainings that succeed, got the exit codes {codes}; their messages are above")
    return time.perf_counter() - begun
