"""Measures how long a user waits for an answer, and for the first training step.

    python scripts/benchmark.py start [--rounds 5] [--verbs predict serve]

- help, verb help, typo, wrong group: the commands `--help`, `train --help`, `trian` and `train datset=x`;
- missing and wrong: commands that name a folder, a file or a run that is not there;
- imports: importing torch, torchvision, Lightning, MLflow and albumentations in a fresh process, and nothing else;
- verbs: from the start of the process to the first useful line of each verb, beside the bare imports of the packages
  that it has loaded by its end. That line is the first of the result on standard output, the address of verbs that
  serve (`serve`, `ui`), and the first message about the work of verbs that train. A small project is made for them,
  with a run of a ResNet-18, a sweep of two cells and imported predictions; MB is the largest resident memory;
- first step: from the command `train` to the first value of train/loss_step in the store, on data that `prepare` has
  seen, in a store that exists. `beyond imports` is that minus the imports of the same call.
"""

from __future__ import annotations

import argparse
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmark_rounds import seconds_of, show, spread_of, summary, take_turns
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each, alternating (5)")
    parser.add_argument("--verbs", nargs="*", choices=list(CALLS), default=list(CALLS), help="which verbs (all)")


def run(asked: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="lesion_exp_benchmark_") as name:
        folder = Path(name)
        call(folder, "prepare", "experiment=demo")
        open_store(None, folder)  # makes MLflow's tables
        ways = {
            name: lambda command=command: seconds_of(lambda: call(folder, *command))
            for name, command in COMMANDS.items()
        }
        ways["imports"] = lambda: seconds_of(
            lambda: subprocess.run([sys.executable, "-c", IMPORTS], cwd=folder, env=variables(), check=True)
        )
        ways["first step"] = lambda: first_step(folder)
        found = summary(take_turns(ways, asked.rounds))
    beyond = found["first step"]["median"] - found["imports"]["median"]
    show(
        "seconds",
        ["what", "median", "spread"],
        [[name, f"{entry['median']:.2f}", spread_of(entry, 2)] for name, entry in found.items()]
        + [["first step, beyond imports", f"{beyond:.2f}", ""]],
    )
    verbs = measured(asked.verbs, asked.rounds) if asked.verbs else {}
    return {"seconds": found, "first_step_beyond_imports": beyond, "verbs": verbs}


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lesion_exp", *arguments]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, env=variables(), **silent)


def call(folder: Path, *arguments: str) -> None:
    start(folder, *arguments).wait()


def first_step(folder: Path) -> float:
    """Seconds from the command to the time of the first training step in the store."""
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
    process.terminate()
    process.wait()
    return float(stamp) / 1000 - begun
