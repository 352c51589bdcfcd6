"""Kills runs at random moments and resumes them; each must end with the weights of an uninterrupted run.

    python scripts/endurance.py runs --runs 20 --kills 1

Trains one job on generated lesions in one piece, and then over and over with SIGKILL to the process and its loaders
at random moments of training, and continued by `lesion-exp resume` until it ends. Compares the hash of the best weights
and every point of every metric but times and loads. Prints a row for each run; exits with 1 if anything differs or is
lost.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from endurance_process import kill_all, start

if TYPE_CHECKING:
    from lesion_exp.tracking.store import Store
    from lesion_exp.tracking.stored_run import Run

JOB = (
    "experiment=demo", "image_size=32", "dataset.num_lesions=150", "dataset.image_height=48", "dataset.image_width=64",
    "backbone=small_cnn", "loader.batch_size=16", "augmentation=standard", "augmentation.mix.mixup_alpha=0.4",
    "trainer.ema_decay=0.9", "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=10",
    "trainer.checkpoint_every_steps=3", "loader.num_workers=1", "evaluation.bootstrap_draws=100",
    "print_config=false", "test=false",
)  # fmt: skip
WITH_TIME = ("time/", "system/")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=20, help="runs beside the one that nobody stops (20)")
    parser.add_argument("--kills", type=int, default=1, help="times that each of them is killed (1)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")


def run(asked: argparse.Namespace) -> int:
    from lesion_exp.tracking.find import find_run
    from lesion_exp.tracking.store import open_store

    draws = random.Random(asked.seed)
    with tempfile.TemporaryDirectory(prefix="lesion_exp_endurance_") as name:
        folder = Path(name)
        store: Store = open_store(None, folder, folder / "mlruns" / "live")
        process = start(folder, ["train", *JOB])
        saves = wait_for_saves(folder, process)
        if process.wait() != 0:
            raise RuntimeError((folder / "output.txt").read_text())
        whole = find_run(store, "latest")
        points = points_of(whole)
        num_points = sum(map(len, points.values()))
        print(f"in one piece: {len(points)} metrics, {num_points} points, {saves} checkpoints", flush=True)
        print(f"{'run':>4} {'steps when killed':>20} {'status':>9} {'weights':>9} {'metrics that differ':>20}")
        equal = 0
        for number in range(1, asked.runs + 1):
            steps, code = train_with_kills(folder, [draws.randint(1, saves // asked.kills) for _ in range(asked.kills)])
            run = find_run(store, "latest")
            differ = sum(points_of(run).get(name) != found for name, found in points.items())
            same = run.tags.get("weights_hash") == whole.tags["weights_hash"]
            equal += same and differ == 0 and code == 0 and run.status == "FINISHED"
            text = " ".join(map(str, steps))
            print(f"{number:>4} {text:>20} {run.status:>9} {'equal' if same else 'DIFFER':>9} {differ:>20}", flush=True)
        count = len(store.client.search_runs(store.experiment_ids()))
        print(f"{equal} of {asked.runs} equal to the run in one piece; {count} runs in the store")
        return int(equal != asked.runs or count != asked.runs + 1)


def train_with_kills(folder: Path, kills: list[int]) -> tuple[list[int | str], int]:
    """Trains with kills; returns the steps that were stored at each kill, and the last exit code.

    Each number in `kills` is how many checkpoints an attempt saves before it is killed, some moment later.
    """
    steps: list[int | str] = []
    process = start(folder, ["train", *JOB])
    for saves in kills:
        wait_for_saves(folder, process, saves)
        time.sleep(random.uniform(0.0, 0.1))
        kill_all(process)
        steps.append(kept_steps(folder))
        process = start(folder, ["resume", "run=latest"])
    return steps, process.wait()


def points_of(run: Run) -> dict[str, list[tuple[int, float]]]:
    return {
        name: [(point.step, point.value) for point in run.store.client.get_metric_history(run.run_id, name)]
        for name in run.metrics
        if not name.startswith(WITH_TIME)
    }


def wait_for_saves(folder: Path, process: subprocess.Popen[bytes], most: int | None = None) -> int:
    """How many checkpoints the process has saved by now: `most`, or all by the time that it ends."""
    seen: set[int] = set()
    begun = time.time_ns()
    while process.poll() is None and (most is None or len(seen) < most):
        for path in folder.glob("mlruns/live/*/last.ckpt"):
            with contextlib.suppress(FileNotFoundError):
                moment = path.stat().st_mtime_ns
                seen |= {moment} if moment > begun else set()
        time.sleep(0.01)
    return len(seen)


def kept_steps(folder: Path) -> int | str:
    """The steps in the newest checkpoint of the run; `all` after the run has stored its checkpoints."""
    import torch

    from lesion_exp.training.checkpoint import newest_checkpoint

    found = [path for live in folder.glob("mlruns/live/*/") if (path := newest_checkpoint(live)) is not None]
    if not found:
        return "all"
    newest = max(found, key=lambda path: path.stat().st_mtime)
    return int(torch.load(newest, map_location="cpu", weights_only=True)["global_step"])
