"""Measures how long a user waits for an answer, and for the first training step.

    python scripts/benchmark.py start [--rounds 5] [--verbs predict serve]

- help, verb help, typo, wrong group: the commands `--help`, `train --help`, `trian` and `train datset=x`;
- missing and wrong: commands that name a folder, a file or a run that is not there;
- imports: importing torch, torchvision, Lightning, MLflow and albumentations in a fresh process, and nothing else;
- verbs: from the start of the process to the first useful line of each verb, beside the bare imports of the packages
  that it has loaded by its end. That line is the first of the result on standard output, the address of verbs that
  serve (`serve`, `ui`), and the first message about the work of verbs that train. A small project is made for them,
  with a run of a ResNet-18, a stopped run, a sweep of two cells and imported predictions; MB is the largest resident
  memory;
- reading the data: loading, checking, splitting and auditing the data of the next item, after all imports;
- first step: from the command `train` to the first value of train/loss_step in the store, on data that `prepare` has
  seen, in a store that exists. The last line is its ratio to the imports and the reading of the data.

Beside the seconds on the clock stand those for which the process used a processor, which other programs change less.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmark_rounds import (
    processor_seconds_of,
    seconds_of,
    show,
    spread_of,
    summary,
    take_turns,
    with_processor,
)
from benchmark_verbs import CALLS, measured, variables

from lesion_exp.tracking.store import open_store

JOB = (
    "experiment=demo", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2",
    "trainer.log_every_n_steps=1", "trainer.limit_val_batches=1", "test=false", "print_config=false",
)  # fmt: skip
COMMANDS = {
    "help": ("--help",),
    "verb help": ("train", "--help"),
    "typo": ("trian",),
    "wrong group": ("train", "datset=ham10000"),
    "missing folder": ("train", "dataset=ham10000", "dataset.root=nowhere"),
    "missing folder, plan": ("plan", "dataset=ham10000", "dataset.root=nowhere"),
    "missing folder, leakage": ("leakage", "dataset=ham10000", "dataset.root=nowhere"),
    "missing weights": ("train", "backbone.weights=nowhere.pt"),
    "missing predictions": ("import", "predictions=nowhere.csv", "truth=nowhere.csv"),
    "missing bundle": ("bundle", "import", "nowhere.zip"),
    "wrong run": ("report", "run=nowhere"),
}
IMPORTS = "import torch, torchvision, pytorch_lightning, mlflow, albumentations"
READING = """
import json, time
from pathlib import Path
from lesion_exp.config.compose import compose
from lesion_exp.training.run import check_job  # imports all that a training does
from lesion_exp.training.data import load_data, split_data

config = compose({words}, root=Path.cwd()).config
begun, used = time.perf_counter(), time.process_time()
split_data(config, load_data(config))
print(json.dumps([time.perf_counter() - begun, time.process_time() - used]))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each, alternating (5)")
    parser.add_argument("--verbs", nargs="*", choices=list(CALLS), default=list(CALLS), help="which verbs (all)")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    used: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="lesion_exp_benchmark_") as name:
        folder = Path(name)
        call(folder, "prepare", "experiment=demo")
        open_store(None, folder)  # makes MLflow's tables
        ways = {
            name: with_processor(name, lambda command=command: seconds_of(lambda: call(folder, *command)), used)
            for name, command in COMMANDS.items()
        }
        ways["imports"] = with_processor("imports", lambda: seconds_of(lambda: run_code(folder, IMPORTS)), used)
        ways["reading the data"] = lambda: reading(folder, used.setdefault("reading the data", []))
        ways["first step"] = lambda: first_step(folder, used.setdefault("first step", []))
        found = summary(take_turns(ways, asked.rounds))
    processor = {name: statistics.median(values) for name, values in used.items()}
    seconds = {name: entry["median"] for name, entry in found.items()}
    ratios = [each["first step"] / (each["imports"] + each["reading the data"]) for each in (seconds, processor)]
    show(
        "seconds, and seconds of a processor",
        ["what", "median", "spread", "processor"],
        [
            [name, f"{entry['median']:.2f}", spread_of(entry, 2), f"{processor[name]:.2f}"]
            for name, entry in found.items()
        ]
        + [["first step / (imports + reading the data)", f"{ratios[0]:.2f}", "", f"{ratios[1]:.2f}"]],
    )
    verbs = measured(asked.verbs, asked.rounds) if asked.verbs else {}
    return {
        "seconds": found,
        "processor_seconds": processor,
        "first_step_beyond_imports": seconds["first step"] - seconds["imports"],
        "first_step_ratio": {"seconds": ratios[0], "processor_seconds": ratios[1]},
        "verbs": verbs,
    }


def run_code(folder: Path, code: str) -> str:
    """What Python code prints in a process of its own."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=variables(), check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def reading(folder: Path, processor: list[float]) -> float:
    """Seconds in which the data of the job are read, checked, split and audited, after the imports."""
    seconds, used = json.loads(run_code(folder, f"{IMPORTS}\n{READING.format(words=list(JOB))}").splitlines()[-1])
    processor.append(used)
    return float(seconds)


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lesion_exp", *arguments]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, env=variables(), **silent)


def call(folder: Path, *arguments: str) -> None:
    start(folder, *arguments).wait()


def first_step(folder: Path, processor: list[float]) -> float:
    """Seconds from the command to the time of the first training step in the store; those of a processor are added to
    `processor`, up to the moment when the step is seen there."""
    begun = time.time()
    process = start(folder, "train", *JOB)
    stamp = None
    with sqlite3.connect(folder / "mlruns" / "mlflow.db") as store:
        while stamp is None:
            ended = process.poll() is not None
            rows = store.execute(
                "select min(timestamp) from metrics where key = 'train/loss_step' and timestamp > ?", (begun * 1000,)
            )
            (stamp,) = rows.fetchone()
            if ended and stamp is None:
                raise RuntimeError("the run ended without a training step")
            time.sleep(0.2)
    processor.append(processor_seconds_of(process.pid))
    process.terminate()
    process.wait()
    return float(stamp) / 1000 - begun
