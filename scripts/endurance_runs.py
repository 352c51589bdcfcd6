"""A run is killed at random moments and gone on with each time; it must end with the weights of one never stopped.

    python scripts/endurance.py runs --kills 20

Trains one job on generated lesions in one piece, and once more with SIGKILL to the process and its loaders at random
moments, gone on with by `lesion-exp resume` until it ends. Compares the hash of the best weights and every point of
every metric but times and loads. Prints a row a sitting; exits 1 where anything differs, or a run is lost or doubled.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from endurance_process import kill_all, start

if TYPE_CHECKING:
    from lesion_exp.tracking.find import Run
    from lesion_exp.tracking.store import Store

JOB = (
    "experiment=demo", "image_size=48", "dataset.num_lesions=400", "dataset.image_height=64", "dataset.image_width=96",
    "augmentation=standard", "augmentation.mix.mixup_alpha=0.4", "trainer.ema_decay=0.9", "trainer=cpu",
    "trainer.precision=32-true", "trainer.max_epochs=30", "trainer.checkpoint_every_steps=3", "loader.num_workers=2",
    "evaluation.bootstrap_draws=100", "print_config=false", "test=false",
)  # fmt: skip
WITH_TIME = ("time/", "system/")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=20, help="times that the run is killed (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")


def run(asked: argparse.Namespace) -> int:
    from lesion_exp.tracking.find import find_run
    from lesion_exp.tracking.store import open_store

    draws = random.Random(asked.seed)
    with tempfile.TemporaryDirectory(prefix="lesion_exp_endurance_") as name:
        whole, killed = Path(name) / "whole", Path(name) / "killed"
        for folder in (whole, killed):
            folder.mkdir()
        start(whole, ["train", *JOB]).wait()
        print(f"{'sitting':>7} {'steps kept':>11} {'status':>9}")
        process = start(killed, ["train", *JOB])
        kills = 0
        while kills < asked.kills and process.poll() is None:
            wait_for_progress(killed, process)
            time.sleep(draws.uniform(0.0, 4.0))
            kill_all(process)
            kills += 1
            print(f"{kills:>7} {kept_steps(killed):>11} {'killed':>9}", flush=True)
            process = start(killed, ["resume", "run=latest"])
        code = process.wait()
        stores: list[Store] = [open_store(None, folder, folder / "mlruns" / "live") for folder in (whole, killed)]
        runs: list[Run] = [find_run(store, "latest") for store in stores]
        count = len(stores[1].client.search_runs(stores[1].experiment_ids()))
        return judge(runs, count, code, kills)


def wait_for_progress(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the process has saved a point of its own, or ended."""
    begun = time.time()
    while process.poll() is None:
        if any(path.stat().st_mtime > begun for path in folder.glob("mlruns/live/*/last.ckpt")):
            return
        time.sleep(0.05)


def kept_steps(folder: Path) -> int:
    import torch

    from lesion_exp.job.checkpoint import newest_checkpoint

    for live in folder.glob("mlruns/live/*/"):
        path = newest_checkpoint(live)
        if path is not None:
            return int(torch.load(path, map_location="cpu", weights_only=True)["global_step"])
    return 0


def judge(runs: list[Run], count: int, code: int, kills: int) -> int:
    points = [
        {
            name: [(point.step, point.value) for point in run.store.client.get_metric_history(run.run_id, name)]
            for name in run.metrics
            if not name.startswith(WITH_TIME)
        }
        for run in runs
    ]
    same = sum(points[0][name] == points[1].get(name) for name in points[0])
    faults = {
        "exit code of the last sitting": (code, 0),
        "runs in the store": (count, 1),
        "status": (runs[1].status, "FINISHED"),
        "weights": (runs[1].tags["weights_hash"], runs[0].tags["weights_hash"]),
        "metrics with equal points": (same, len(points[0])),
    }
    print(f"\nkilled {kills} times")
    for name, (value, wanted) in faults.items():
        print(f"{name:<30} {value!s:>18}   {'ok' if value == wanted else f'expected {wanted}'}")
    return int(any(value != wanted for value, wanted in faults.values()))
