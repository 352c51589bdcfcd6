"""Stops an MLflow server for a minute during a run: the metrics must equal those of an undisturbed run.

    python scripts/endurance.py outage
    python scripts/endurance.py outage --backend postgresql://user:password@127.0.0.1/mlflow

Trains one job on generated lesions four times: undisturbed; with the server killed and started again after
--seconds; with it stopped (it takes connections and never answers) and continued; with it killed until after the run's
end, then `lesion-exp sync`. Prints a table with a row for each run; exits with 1 if a run fails or differs.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient


JOB = (
    "experiment=demo", "image_size=64", "dataset.num_lesions=400", "dataset.image_height=96", "dataset.image_width=128",
    "backbone=small_cnn", "trainer=cpu", "trainer.precision=32-true", "loader.num_workers=0", "print_config=false",
    "evaluation.bootstrap_draws=100", "tracking.flush_seconds=2",
)  # fmt: skip
IN_NO_TWO_RUNS_EQUAL = ("mlflow.heartbeat", "mlflow.runName")
WITH_TIME = ("time/", "system/")
TITLE = "{:<22} {:>5} {:>9} {:>8} {:>8} {:>7} {:>9}  {}"


class Server:
    """An MLflow server in a session of its own, so that all its workers can be hit at once."""

    def __init__(self, backend: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._backend, self._folder = backend, folder
        self.start()

    def start(self) -> None:
        variables = {
            **os.environ,
            "MLFLOW_BACKEND_STORE_URI": self._backend,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        variables.pop("MLFLOW_TRACKING_URI", None)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--artifacts-destination", str(self._folder / "artifacts")]
        with (self._folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                command, env=variables, stdout=log, stderr=log, cwd=self._folder, start_new_session=True
            )
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=2).close()
                return
            except OSError:
                time.sleep(0.3)
        raise RuntimeError(f"the server does not start, see {self._folder / 'server.log'}")

    def hit(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)
        if number == signal.SIGKILL:
            self._process.wait()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this test."""
    parser.add_argument("--backend", help="database of the server; without it, a fresh SQLite file")
    parser.add_argument("--seconds", type=float, default=60, help="how long the server is away (60)")
    parser.add_argument("--epochs", type=int, default=60, help="epochs of the run; it should outlast the outage (60)")


def run(asked: argparse.Namespace) -> int:
    """Trains undisturbed and with three outages; returns 1 if a run fails or differs."""
    with tempfile.TemporaryDirectory(prefix="outage_") as name:
        folder = Path(name)
        server = Server(asked.backend or f"sqlite:///{folder / 'server.db'}", folder)
        try:
            return compare(server, folder, asked.seconds, asked.epochs)
        finally:
            server.hit(signal.SIGKILL)


def compare(server: Server, folder: Path, seconds: float, epochs: int) -> int:
    print(TITLE.format("server", "exit", "run", "metrics", "points", "away", "epochs", "result"), flush=True)
    reference: dict[str, Any] = {}
    bad = 0
    for name in ("undisturbed", "killed", "stopped", "killed until the end"):
        began = time.monotonic()
        code, run_id, away, trained = train(server, folder, name, seconds, epochs)
        lasted = time.monotonic() - began
        found = known(server, run_id)
        reference = reference or found
        result = verdict(found, reference) if code == 0 else "the run failed"
        points = sum(len(history) for history in found["points"].values())
        print(
            TITLE.format(name, code, f"{lasted:.0f} s", len(found["points"]), points, f"{away:.0f} s", trained, result),
            flush=True,
        )
        bad += result != "equal"
    return 1 if bad else 0


def train(server: Server, folder: Path, name: str, seconds: float, epochs: int) -> tuple[int, str, float, str]:
    """Exit code, run id, seconds without server, epochs trained meanwhile."""
    command = [sys.executable, "-m", "lesion_exp", "train", *JOB, f"trainer.max_epochs={epochs}"]
    command += [f"paths.root={folder / 'project'}"]
    variables = {**os.environ, "MLFLOW_TRACKING_URI": server.address}
    log_path = folder / f"{name}.log"
    with log_path.open("w") as log:
        run = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=log, text=True)
        away, trained = 0.0, ""
        if name != "undisturbed":
            wait_for_epochs(log_path, run, 3)
            before, began = epochs_done(log_path), time.monotonic()
            server.hit(signal.SIGSTOP if name == "stopped" else signal.SIGKILL)
            run_on(run, None if name == "killed until the end" else seconds)
            trained = str(epochs_done(log_path) - before)
            server.hit(signal.SIGCONT) if name == "stopped" else server.start()
            away = time.monotonic() - began
        output, _ = run.communicate()
    if name == "killed until the end":
        sync = [sys.executable, "-m", "lesion_exp", "sync", f"paths.root={folder / 'project'}"]
        print(subprocess.run(sync, capture_output=True, text=True, check=False).stdout, file=sys.stderr, end="")
    if run.returncode:
        print(log_path.read_text(), file=sys.stderr)
    lines = output.split()
    return run.returncode, lines[-1] if lines else "", away, trained


def run_on(run: subprocess.Popen[str], seconds: float | None) -> None:
    try:
        run.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return
    if seconds is not None:
        print("the run ended before the server was back; more --epochs are needed", file=sys.stderr)


def epochs_done(log: Path) -> int:
    return log.read_text().count("val/balanced_accuracy")


def wait_for_epochs(log: Path, run: subprocess.Popen[str], number: int) -> None:
    while epochs_done(log) < number and run.poll() is None:
        time.sleep(0.1)


def known(server: Server, run_id: str) -> dict[str, Any]:
    """The run on the server, without what depends on the time."""
    from mlflow import MlflowClient

    client = MlflowClient(server.address)
    run = client.get_run(run_id)
    names = sorted(name for name in run.data.metrics if not name.startswith(WITH_TIME))
    return {
        "status": run.info.status,
        "points": {
            name: sorted((point.step, point.value) for point in client.get_metric_history(run_id, name))
            for name in names
        },
        "params": {name: text for name, text in run.data.params.items() if not name.startswith("paths.")},
        "tags": {name: text for name, text in run.data.tags.items() if name not in IN_NO_TWO_RUNS_EQUAL},
        "artifacts": sorted(artifacts(client, run_id)),
        "inputs": sorted(entry.dataset.name for entry in run.inputs.dataset_inputs),
    }


def artifacts(client: MlflowClient, run_id: str, folder: str | None = None) -> list[str]:
    found = []
    for entry in client.list_artifacts(run_id, folder):
        found += artifacts(client, run_id, entry.path) if entry.is_dir else [entry.path]
    return found


def verdict(found: dict[str, Any], reference: dict[str, Any]) -> str:
    different = [part for part in reference if found[part] != reference[part]]
    for part in different:
        print(f"{part}: {found[part]}\n  undisturbed: {reference[part]}", file=sys.stderr)
    return f"{', '.join(different)} differ" if different else "equal"
