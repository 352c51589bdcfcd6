"""One run on two nodes of Ray: two raylets on this machine, which Ray's own tests use in the place of two machines."""

import contextlib
import importlib.util
import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from lesion_exp.sweeps.ledger import find_sweep
from lesion_exp.tracking.find import find_run, runs_where
from lesion_exp.tracking.stored_run import download_artifact, read_predictions
from tests.sweeps.conftest import TINY
from tests.sweeps.test_whole_sweep import start, store_of, wait_for

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: lesion-exp[ray]"),
]
SMALL = {"object_store_memory": 80 * 1024**2, "include_dashboard": False}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A cluster whose head runs nothing, and two nodes with a core each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")  # other programs may use the memory of this machine
    monkeypatch.setenv("RAY_worker_niceness", "0")  # by default they give way to everything else
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL})
    try:
        for _ in range(2):
            made.add_node(num_cpus=1, **SMALL)
        yield made
    finally:
        made.shutdown()


def on_two_nodes(cluster, *overrides):
    """The command of a sweep, each of whose runs has a process on each of two nodes."""
    layout = ("trainer=ddp_cpu", "trainer.devices=1", "trainer.num_nodes=2", "launcher=ray", "launcher.nodes=2")
    return start("train", "-m", *TINY, *layout, f"launcher.address={cluster.address}", *overrides)


def descendants(pid):
    """The processes that `pid` has started, and those that these have started."""
    children = [int(text) for path in Path(f"/proc/{pid}/task").glob("*/children") for text in path.read_text().split()]
    return [*children, *(one for child in children for one in descendants(child))]


def environment(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return []


def node_of_rank(cluster, rank):
    """The node on which the process with that rank runs, and all of its processes."""
    for node in cluster.worker_nodes:
        raylet = node.all_processes["raylet"][0].process.pid
        below = descendants(raylet)
        if any(f"RANK={rank}" in environment(pid) for pid in below):
            return node, [raylet, *below]
    return None


def lose(cluster, rank):
    """Ends the node of that rank as a loss of power would."""
    node, pids = wait_for(lambda: node_of_rank(cluster, rank))
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


def test_a_run_on_two_nodes_is_one_run_that_evaluates_each_image_once(tmp_path, cluster):
    process = on_two_nodes(cluster, "trainer.max_epochs=1")
    _, err = process.communicate(timeout=900)
    (cell,) = find_sweep(tmp_path / "sweeps", "latest").cells()
    assert process.returncode == 0, err + cell.log.read_text()
    state, store = cell.state(), store_of(tmp_path)
    assert (state.status, state.attempts) == ("finished", 1)
    assert [run.run_id for run in runs_where(store, "") if "sweep_cell" in run.tags] == [state.run_id]
    run = find_run(store, state.run_id)
    manifest = pd.read_parquet(download_artifact(run, "split/manifest.parquet"))
    expected = sorted(manifest.loc[manifest["split"] == "val", "image_id"])
    assert sorted(read_predictions(run, "val")["image_id"]) == expected


@pytest.mark.parametrize("rank", [0, 1])
def test_the_loss_of_a_node_ends_the_others_and_resume_goes_on(tmp_path, cluster, rank):
    process = on_two_nodes(cluster, "trainer.max_epochs=30", "trainer.checkpoint_every_steps=2")
    wait_for(lambda: list(tmp_path.glob("mlruns/live/*/last.ckpt")), process, 900)
    (cell,) = find_sweep(tmp_path / "sweeps", "latest").cells()
    run_id = cell.begun_run()
    lose(cluster, rank)
    began = time.monotonic()
    wait_for(lambda: node_of_rank(cluster, 1 - rank) is None)
    assert time.monotonic() - began < 60
    _, err = process.communicate(timeout=300)
    assert f"rank {rank} (process" in cell.log.read_text()
    assert "Ray says: NodeDiedError" in " ".join(err.split())
    assert cell.state().status == "queued", err
    cluster.add_node(num_cpus=1, **SMALL)
    resumed = start("sweep", "resume")
    _, err = resumed.communicate(timeout=1800)
    assert resumed.returncode == 0, err + cell.log.read_text()
    assert (cell.state().status, cell.state().run_id) == ("finished", run_id)
