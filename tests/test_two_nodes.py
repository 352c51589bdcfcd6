"""One run on two machines: network namespaces joined by a virtual cable, see `scripts/two_nodes.py`."""

import importlib.util
from pathlib import Path

import pytest

from tests import on_two_machines

SCRIPT = Path(__file__).parents[1] / "scripts" / "two_nodes.py"
_SPEC = importlib.util.spec_from_file_location("two_nodes", SCRIPT)
two_nodes = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(two_nodes)
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(two_nodes.reason_against()), reason=str(two_nodes.reason_against())),
]


def result(*arguments):
    """What the script says of a case."""
    return on_two_machines.result(SCRIPT, *arguments)


@pytest.mark.parametrize("per_node", [1, 2])
def test_two_machines_make_the_run_of_one(per_node):
    found = result("same", f"--processes={per_node}")
    two, one = found["two_machines"], found["one_machine"]
    assert (two["codes"], two["runs"], two["status"]) == ([0, 0], 1, "FINISHED")
    assert two["each_image_once"] == {"val": True, "test": True}
    assert found["stores"] == {"a": 1, "b": 1}
    assert found["mlflow"] == {"a": True, "b": False}
    assert (two["best_weights"], two["last_weights"]) == (one["best_weights"], one["last_weights"])
    assert found["metrics_equal"]


def test_a_lost_machine_is_named_and_resume_goes_on():
    found = result("killed")
    assert found["seconds_until_the_others_ended"] < 60
    assert any("rank 1 (process" in line and "node-b" in line for line in found["said"])
    assert any("resume run=" in line for line in found["said"])
    assert found["then"]["status"] == "KILLED"
    assert (found["resumed"]["status"], found["resumed"]["run"]) == ("FINISHED", found["then"]["run"])
    assert found["largest_difference_to_a_run_that_never_stopped"] == 0


def test_machines_that_no_longer_reach_each_other_end_within_a_minute():
    found = result("cable")
    assert set(found["seconds_until_they_ended"]) == {"a", "b"}
    assert max(found["seconds_until_they_ended"].values()) < 60
    for node, rank, other in (("a", 1, "b"), ("b", 0, "a")):
        assert any(f"rank {rank} (process" in line and f"node-{other}" in line for line in found["said"][node])


def test_torchrun_starts_the_processes_again_and_the_run_goes_on():
    found = result("restarted")
    assert (found["codes"], found["run"]["runs"], found["run"]["status"]) == ([0, 0], 1, "FINISHED")
    assert found["largest_difference_to_a_run_that_never_stopped"] == 0
