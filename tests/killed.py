"""A training in a process of its own that is killed, without a chance to say or write anything more."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from lesion_exp.config.freeze import Job
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import Run
from lesion_exp.training.checkpoint import LAST


def killed(job: Job, root: Path) -> Run:
    """The run of `job` in the project at `root`, killed by SIGKILL half a second after its first checkpoint."""
    job.project.opened()  # the process would take seconds to make the tables of the store
    job.write(root / "job.yaml")
    command = [sys.executable, "-m", "lesion_exp", "train", "job=job.yaml"]
    live = root / "mlruns" / "live"
    before = set(live.glob(f"*/{LAST}"))
    process = subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        while not set(live.glob(f"*/{LAST}")) - before:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.05)
        time.sleep(0.5)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    run = find_run(job.project.store, "latest")
    assert run.status == "KILLED"
    return run
