"""SLURM's own daemons and commands on two machines made of network namespaces, see `scripts/slurm_cluster.py`."""

import os
import sys
from importlib import util
from pathlib import Path

import pytest

from tests import on_two_machines

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
try:
    _SPEC = util.spec_from_file_location("slurm_cluster", SCRIPTS / "slurm_cluster.py")
    slurm_cluster = util.module_from_spec(_SPEC)
    _SPEC.loader.exec_module(slurm_cluster)
finally:
    sys.path.remove(str(SCRIPTS))
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(slurm_cluster.reason_against()), reason=str(slurm_cluster.reason_against())),
]
BOTH = ["FINISHED", "FINISHED"]


def result(case):
    """What the script says of a case."""
    return on_two_machines.result(SCRIPTS / "slurm_cluster.py", case)[case]


def statuses(found):
    """The status of each run in MLflow, of which each cell has one."""
    assert [number for number, _ in found["runs"]] == [f"{place:04d}" for place in range(len(found["runs"]))]
    return [status for _, status in found["runs"]]


def assert_all_finished(found, attempts):
    assert set(found["statuses"]) == {"finished"}
    assert found["attempts"] == attempts
    assert statuses(found) == ["FINISHED"] * len(attempts)
    assert found["steps_twice"] == 0


def test_an_array_of_jobs_runs_the_cells_two_at_a_time():
    found = result("sweep")
    assert (found["code"], found["status"]) == (0, [0, True])
    assert found["jobs"] == ["1_0", "1_1", "1_2"]
    assert found["most_at_once"] == 2
    assert found["hosts"] == ["node-a", "node-b"]
    assert_all_finished(found, [1, 1, 1])


def test_a_cell_closes_its_run_before_the_time_limit_and_goes_on_when_slurm_starts_it_again():
    found = result("limit")
    assert found["while_waiting"] == ["queued", "stopped"]
    assert found["run_while_waiting"] == "KILLED"
    assert found["code"] == 0
    assert found["epochs"] == [40, 40]
    assert min(found["attempts"]) >= 2
    restarts = int(found["restarts"].removeprefix("Restarts="))
    assert restarts >= found["attempts"][0] - 1, "a job may be asked to end just when its cell is done"
    assert_all_finished(found, found["attempts"])


def test_cells_that_are_requeued_or_cancelled_by_hand_go_on():
    found = result("requeue")
    assert found["code"] == 1
    assert found["before"]["statuses"] == ["finished", "queued", "finished"]
    assert "is CANCELLED" in found["before"]["notes"][1]
    assert statuses(found["before"]) == ["FINISHED", "KILLED", "FINISHED"]
    assert found["resumed"] == 0
    assert_all_finished(found, [2, 2, 1])


def test_jobs_outlive_their_driver_and_end_with_ctrl_c_and_cancel():
    found = result("driver")
    assert found["adopted"] == {"same_jobs": True, "jobs": ["1_0", "1_1"]}
    interrupted, cancelled = found["interrupted"], found["cancelled"]
    assert (interrupted["code"], interrupted["jobs"], interrupted["attempts"]) == (130, [], [1, 1])
    assert (interrupted["statuses"], statuses(interrupted)) == (["queued"] * 2, ["KILLED"] * 2)
    assert (cancelled["code"], cancelled["jobs"], cancelled["statuses"]) == (0, [], ["cancelled"] * 2)
    assert statuses(cancelled) == ["KILLED"] * 2
    assert found["retried"]["code"] == 0
    assert_all_finished(found["retried"], [3, 3])


def test_a_job_without_enough_memory_is_named_and_resumed_with_more():
    found = result("memory")
    assert found["code"] == 1
    assert all("Exceeded job memory limit" in note for note in found["before"]["notes"])
    assert found["resumed"] == 0
    assert (found["statuses"], statuses(found)) == (["finished"] * 2, BOTH)


def test_cells_that_are_preempted_go_on():
    found = result("preempt")
    assert found["code"] == 0
    assert_all_finished(found, [2, 2])


def test_srun_makes_one_run_of_its_tasks():
    found = result("srun")
    alone = found["without_slurm"]
    for number, name in enumerate(("two_machines", "one_machine"), 1):
        facts = found[name]
        assert (facts["code"], facts["runs"], facts["status"]) == (0, number, "FINISHED")
        assert facts["each_image_once"] == {"val": True, "test": True}
        assert (facts["best_weights"], facts["last_weights"]) == (alone["best_weights"], alone["last_weights"])
    assert found["metrics_equal"]


@pytest.mark.parametrize("case", ["killed", "lost"])
def test_the_others_end_when_a_task_or_a_machine_of_srun_is_lost_and_resume_goes_on(case):
    found = result(case)
    assert found["seconds_until_the_others_ended"] < 60
    assert any("rank 1 (process" in line and "node-b" in line for line in found["said"])
    assert any("resume run=" in line for line in found["said"])
    assert found["then"]["status"] == "KILLED"
    assert (found["resumed"]["code"], found["resumed"]["status"]) == (0, "FINISHED")
    assert found["resumed"]["run"] == found["then"]["run"]
    assert found.get("largest_difference_to_a_run_that_never_stopped", 0) == 0


def test_a_cell_on_two_machines_is_one_run_also_after_a_requeue():
    found = result("nodes")
    assert found["code"] == 0
    assert_all_finished(found, [2, 1])


def test_a_batch_script_resumes_its_sweep_after_the_time_limit_and_after_a_requeue():
    found = result("batch")
    for name, attempt in (("at_limit", 1), ("requeued", 2)):
        assert found[name]["attempts"] == [attempt] * 2
        assert (found[name]["statuses"], statuses(found[name])) == (["queued"] * 2, ["KILLED"] * 2)
    assert len(found["said"]) == 2
    assert_all_finished(found, [3, 3])


def test_auto_means_the_cores_of_the_allocation():
    found = result("auto")
    cores = min(2, len(os.sched_getaffinity(0)))
    assert [facts["code"] for facts in found.values()] == [0] * len(found)
    assert {facts["devices"] for facts in found.values()} == {"1"}
    assert len({facts["run"] for facts in found.values()}) == len(found)
    assert {name: facts["cores"] for name, facts in found.items()} == {
        "batch script": cores, "batch script of two tasks": cores, "batch script of one core": 1, "salloc": cores,
        "salloc, srun": 1,
    }  # fmt: skip
