import sys
from types import ModuleType

import pytest

from lesion_exp.verbs.doctor import machine as examined
from lesion_exp.verbs.doctor.check_result import GIB
from lesion_exp.verbs.doctor.machine import (
    cores,
    cpu_limit,
    devices,
    machine,
    memory,
    memory_limit,
    processors,
    schedulers,
    shared_memory,
)

TRAINER = {"accelerator": "auto"}


def test_every_aspect_of_this_machine_is_examined():
    names = [result.name for result in (*machine(), *processors(TRAINER))]
    assert {"cores", "memory"} <= set(names)
    assert any(name == "devices" or name.startswith("GPU") for name in names)


def test_a_gpu_that_is_asked_for_and_absent_is_a_problem(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    [found] = devices({"accelerator": "gpu"})
    assert found.state == "problem"
    assert "trainer=cpu" in found.remedy
    [found] = devices({"accelerator": "cpu"})
    assert found.state in {"ok", "note"}
    assert "the CPU computes bf16" in found.text


@pytest.mark.parametrize(
    ("arguments", "state", "words"),
    [
        ((8, 8, None, 0.1), "ok", "8 cores, 8 threads"),
        ((8, 8, 2.0, 0.1), "note", "may use only 2"),
        ((8, 2, 2.0, 0.1), "ok", "8 cores, 2 threads"),
        ((2, 2, None, 1.9), "note", "keep 1.9 of them busy"),
    ],
)
def test_threads_beyond_a_containers_limit_and_busy_cores_are_noted(arguments, state, words):
    found = cores(*arguments)
    assert found.state == state
    assert words in found.text


def test_little_memory_is_noted_and_a_containers_limit_counts():
    assert memory(20 * GIB, None).state == "ok"
    assert memory(2 * GIB, None).state == "note"
    assert memory(20 * GIB, 2 * GIB).state == "note"
    assert "limit is 2.0 GiB" in memory(20 * GIB, 2 * GIB).text


def test_the_shared_memory_of_a_container_as_docker_makes_it_is_noted():
    assert shared_memory(64 * 2**20).state == "note"
    assert "--shm-size" in shared_memory(64 * 2**20).remedy
    assert shared_memory(4 * GIB).state == "ok"


@pytest.mark.parametrize(
    ("text", "limit"), [("200000 100000\n", 2.0), ("50000 100000", 0.5), ("max 100000\n", None), ("", None)]
)
def test_the_limit_of_cores_is_read_from_the_control_group(tmp_path, text, limit):
    (tmp_path / "cpu.max").write_text(text)
    assert cpu_limit(tmp_path / "cpu.max") == limit
    assert cpu_limit(tmp_path / "absent") is None


@pytest.mark.parametrize(("text", "limit"), [("1073741824\n", GIB), ("max\n", None)])
def test_the_limit_of_memory_is_read_from_the_control_group(tmp_path, text, limit):
    (tmp_path / "memory.max").write_text(text)
    assert memory_limit(tmp_path / "memory.max") == limit


def test_a_scheduler_is_named_with_what_sweeps_need(monkeypatch):
    monkeypatch.setattr(examined.shutil, "which", lambda name: "/bin/sbatch" if name == "sbatch" else None)
    assert list(schedulers({})) == [found for found in schedulers({}) if found.name == "SLURM"]
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    [found] = schedulers({"SLURM_JOB_ID": "17"})
    assert found.state == "note"
    assert "inside job 17" in found.text
    assert "lesion-exp[slurm]" in found.remedy
    monkeypatch.setattr("importlib.util.find_spec", lambda name: ModuleType(name).__spec__ or object())
    [found] = schedulers({})
    assert found.state == "ok"
    monkeypatch.setattr(examined.shutil, "which", lambda name: None)
    assert list(schedulers({})) == []
