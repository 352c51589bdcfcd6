import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from lesion_exp.privacy import without_secrets
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.heartbeat import mark_dead_runs
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.store import Store, open_store
from lesion_exp.tracking.stored_run import download_artifact
from lesion_exp.tracking.ui import ui_command


@pytest.fixture
def server(store: Store, tmp_path: Path, free_port: int) -> Iterator[str]:
    """The address of an MLflow server that keeps artifacts itself."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(free_port)]
    command += ["--workers", "1", "--artifacts-destination", str(tmp_path / "kept by the server")]
    _, variables = ui_command(store, "0")
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{free_port}"
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2).close()
            break
        except OSError:
            time.sleep(0.3)
    yield address
    process.terminate()
    process.wait(timeout=30)


@pytest.mark.slow
def test_run_on_a_server_is_recorded_resumed_and_read_back(server: str, tmp_path: Path) -> None:
    here, there = open_store(server, tmp_path / "here"), open_store(server, tmp_path / "there")
    assert here.artifacts is None
    run = TrackedRun.start(here, "remote", "a run", params={"seed": 1}, system_metrics_seconds=0)
    run.log_metrics({"train/loss": 1.0}, 0)
    run.log_text("kept", "notes/a.txt")
    with pytest.raises(KeyboardInterrupt), run:
        raise KeyboardInterrupt
    with TrackedRun.resume(there, run.run_id, system_metrics_seconds=0) as resumed:
        resumed.log_metrics({"train/loss": 1.0}, 0)
        resumed.log_metrics({"train/loss": 0.5}, 1)
    found = find_run(there, run.run_id[:6])
    assert (found.status, found.params, found.metrics) == ("FINISHED", {"seed": "1"}, {"train/loss": 0.5})
    assert len(there.client.get_metric_history(run.run_id, "train/loss")) == 2
    assert there.artifact_dir(found.artifact_uri) is None
    assert download_artifact(found, "notes/a.txt").read_text() == "kept"
    dead = here.client.create_run(here.experiment_id("remote"), tags={"mlflow.heartbeat": "1"}).info.run_id
    assert mark_dead_runs(there) == [dead]


def test_address_is_shown_without_user_and_password() -> None:
    assert without_secrets("https://me:secret@server/path") == "https://server/path"
    assert without_secrets("http://server:5000") == "http://server:5000"
