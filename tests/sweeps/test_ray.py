import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.sweeps.launcher import launcher as launcher_module
from lesion_exp.sweeps.launcher import ray_tasks
from lesion_exp.sweeps.launcher.launcher import make_launcher
from lesion_exp.sweeps.launcher.ray import RayLauncher
from lesion_exp.sweeps.launcher.several_nodes import starter_words
from lesion_exp.tracking.find import runs_where

NODE = {
    "_target_": "lesion_exp.sweeps.launcher.ray.RayLauncher",
    "address": "local",
    "nodes": 1,
    "parallel": 3,
    "cpus_per_job": 2,
    "gpus_per_job": 0.5,
    "memory_gb": 1.5,
    "resources": {"a100": 1},
    "fail_fast": False,
}


def launcher(**changes):
    return RayLauncher(**{key: value for key, value in {**NODE, **changes}.items() if key != "_target_"})


def test_every_key_reaches_ray():
    assert launcher().options() == {
        "num_cpus": 2,
        "num_gpus": 0.5,
        "memory": 1610612736,
        "resources": {"a100": 1},
        "max_retries": 0,
    }
    assert "memory" not in launcher(memory_gb=None).options()
    with pytest.raises(ConfigError, match=r"launcher\.parallel of at least 1"):
        launcher(parallel=0)


def test_what_a_local_cluster_can_never_run_is_refused():
    there = {"CPU": 2.0, "memory": 8 * 1024.0**3}
    with pytest.raises(ConfigError, match="a100 0 of 1"):
        launcher().check_room([there])
    without = launcher(resources={})
    without.check_room([there])
    assert without.options()["num_gpus"] == 0, "a cluster without GPUs is used without"
    launcher(address="auto").check_room([there])  # it may grow


def test_room_is_counted_on_each_node(caplog):
    there = [{"CPU": 2.0}, {"CPU": 1.0}, {"CPU": 2.0}]
    wanted = {"address": "auto", "gpus_per_job": 0, "memory_gb": None, "resources": {}}
    launcher(**wanted, nodes=2).check_room(there)
    assert not caplog.messages
    launcher(**wanted, nodes=3).check_room(there)
    launcher(**wanted, cpus_per_job=4).check_room(there)
    assert "2 nodes with room for a cell now, and each cell needs 3" in caplog.messages[0]
    assert (
        "0 nodes with room for a cell now (a node has at most CPU 2 of 4), and each cell needs 1" in caplog.messages[1]
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nodes": 0}, "launcher.nodes of at least 1"),
        ({"nodes": 2}, "launcher.address with launcher.nodes=2, got local"),
        ({"nodes": 2, "address": "auto", "cpus_per_job": 0}, "launcher.cpus_per_job of at least 1"),
    ],
)
def test_nodes_that_cannot_be_asked_for_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        launcher(**changes)


class RayError(Exception):
    pass


class Ray:
    """Stands in for Ray: keeps what it is given; a task ends when `outcomes` has its code or its error."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self):
        self.tasks, self.outcomes, self.cancelled, self.groups, self.removed = {}, {}, [], [], []

    def remote(self, function):
        def submit(options, arguments):
            name = f"{function.__name__} {len(self.tasks)}"
            self.tasks[name] = (options, arguments)
            return name

        return SimpleNamespace(
            options=lambda **options: SimpleNamespace(remote=lambda *arguments: submit(options, arguments))
        )

    def wait(self, references, num_returns, timeout):
        ended = [reference for reference in references if reference in self.outcomes]
        return ended[:num_returns], []

    def get(self, reference):
        if isinstance(self.outcomes[reference], RayError):
            raise self.outcomes[reference]
        return self.outcomes[reference]

    def cancel(self, reference, force):
        self.cancelled.append(reference)

    def placement_group(self, bundles, strategy):
        self.groups.append((bundles, strategy))
        return f"group {len(self.groups)}"

    def util(self):
        def place(group, placement_group_bundle_index):
            return group, placement_group_bundle_index

        places = SimpleNamespace(PlacementGroupSchedulingStrategy=place)
        groups = SimpleNamespace(placement_group=self.placement_group, remove_placement_group=self.removed.append)
        return {"ray.util.scheduling_strategies": places, "ray.util.placement_group": groups}


@pytest.fixture
def on_two_nodes(monkeypatch, planned):
    """A launcher that has started a cell on two nodes of a Ray that only keeps what it is given."""
    ray = Ray()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name, module in ray.util().items():
        monkeypatch.setitem(sys.modules, name, module)
    made = launcher(address="auto", nodes=2, gpus_per_job=0, resources={})
    made._ray = ray
    cell = planned("seed=1,2", "trainer=ddp_cpu", "trainer.devices=1", "trainer.num_nodes=2").cells()[0]
    made.start([cell])
    return made, ray, cell


def test_a_cell_on_two_nodes_has_a_task_on_each_that_knows_where_all_meet(on_two_nodes):
    _, ray, cell = on_two_nodes
    assert ray.groups == [([{"CPU": 2, "memory": 1610612736}] * 2, "STRICT_SPREAD")]
    (place, first, second) = ray.tasks
    assert ray.tasks[place][0]["scheduling_strategy"] == ("group 1", 0), "the first node says where"
    for node, name in enumerate((first, second)):
        options, arguments = ray.tasks[name]
        assert options["scheduling_strategy"] == ("group 1", node)
        assert (options["num_cpus"], options["max_retries"]) == (2, 0)
        assert (arguments[0], arguments[3:]) == (str(cell.folder), (2, node, place))
        assert (arguments[1]["OMP_NUM_THREADS"], arguments[1]["LESION_EXP_CORES"]) == ("1", "2"), "the user says 1"


def test_a_cell_has_ended_when_the_tasks_of_all_nodes_have(on_two_nodes):
    made, ray, cell = on_two_nodes
    _, first, second = ray.tasks
    ray.outcomes[second] = 0
    assert made.wait(0) == []
    assert ray.removed == []
    ray.outcomes[first] = 0
    (ended,) = made.wait(0)
    assert (ended.cell, ended.reason) == (cell, None)
    assert ray.removed == ["group 1"]
    assert ray.cancelled == []


def test_the_loss_of_a_node_is_named_and_nodes_that_do_not_notice_it_are_ended(on_two_nodes, monkeypatch, caplog):
    made, ray, _ = on_two_nodes
    _, first, second = ray.tasks
    ray.outcomes[second] = RayError("the node 10.0.0.7 is dead\nand more")
    assert made.wait(0) == []
    assert "cell 0: on node 2 of 2 Ray says: RayError: the node 10.0.0.7 is dead" in caplog.text
    made.wait(0)
    assert ray.cancelled == [], "they have time to notice it by their heartbeats, and to say so"
    monkeypatch.setattr(ray_tasks, "LOST_SECONDS", 0.0)
    made.wait(0)
    made.wait(0)
    assert ray.cancelled == [first], "once"
    ray.outcomes[first] = -signal.SIGTERM
    (ended,) = made.wait(0)
    assert ended.reason == (
        "on node 2 of 2 Ray says: RayError: the node 10.0.0.7 is dead; on node 1 of 2 its process was ended by SIGTERM"
    )
    assert ray.removed == ["group 1"]


def test_a_stopped_sweep_asks_the_tasks_of_every_node_to_end(on_two_nodes):
    made, ray, _ = on_two_nodes
    made.stop()
    assert ray.cancelled == list(ray.tasks)[1:]


def test_a_task_can_be_cancelled_on_a_node_where_ray_was_started_in_the_background(monkeypatch, tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in (ray_tasks, launcher_module):
        found = SimpleNamespace(wait=lambda: signal.getsignal(signal.SIGINT))
        monkeypatch.setattr(module, "CellProcess", lambda *_, found=found: found)
    monkeypatch.setattr(ray_tasks, "processes_per_node", lambda folder: 1)
    try:
        assert launcher_module.run_cell_process(str(tmp_path), {}, ()) == signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        place = ("localhost", 1)
        assert ray_tasks.run_cell_on_node(str(tmp_path), {}, (), 2, 0, place) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_job_for_another_number_of_machines_is_refused(planned):
    cell = planned("seed=1,2", "launcher=ray").cells()[0]
    with pytest.raises(ConfigError, match=r"trainer.num_nodes=2 with launcher.nodes=2, got 1 in cell 0"):
        launcher(address="auto", nodes=2).start([cell])


def free_port():
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]


@pytest.mark.long
def test_the_tasks_of_two_nodes_are_one_run(planned):
    given = ("trainer=ddp_cpu", "trainer.devices=1", "trainer.num_nodes=2", "trainer.max_epochs=1", "launcher=ray")
    sweep = planned("seed=1,2", *given)
    cell, place = sweep.cells()[0], ("localhost", free_port())
    call = "import sys; from lesion_exp.sweeps.launcher.ray_tasks import run_cell_on_node\n"
    call += f"sys.exit(run_cell_on_node({str(cell.folder)!r}, {{}}, ['RANK'], 2, int(sys.argv[1]), {place!r}))"
    tasks = [subprocess.Popen([sys.executable, "-c", call, str(node)]) for node in range(2)]
    assert [task.wait(timeout=600) for task in tasks] == [0, 0], cell.log.read_text()
    assert (cell.state().status, cell.state().attempts) == ("finished", 1)
    runs = runs_where(cell.job().project.store, f"tags.sweep_id = '{sweep.facts.sweep_id}'")
    assert [run.status for run in runs] == ["FINISHED"]


PARENT = """
import subprocess, sys
from lesion_exp.sweeps.launcher.several_nodes import starter_words
words = starter_words(1, 0, 1, "localhost", int(sys.argv[1]))
subprocess.run([sys.executable, *words, "--no-python", sys.argv[2]], check=False)
"""


@pytest.mark.slow
def test_the_processes_of_a_node_end_with_the_task_that_started_them(tmp_path):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    program.chmod(0o755)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(free_port()), str(program)])
    deadline = time.monotonic() + 120
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            pytest.fail("the program outlived its parents")
        time.sleep(0.1)


def test_the_words_of_a_node_name_the_process_that_they_end_with():
    words = starter_words(3, 1, 4, "node-a", 29500)
    assert words[2] == str(os.getpid())
    assert {"--nnodes=3", "--node-rank=1", "--nproc-per-node=4", "--master-addr=node-a", "--master-port=29500"} < {
        *words
    }


def test_the_missing_package_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"expected the package ray for the launcher RayLauncher.*pip install ray"):
        make_launcher(NODE)
