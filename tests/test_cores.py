import os

import pandas as pd
import pytest

from lesion_exp.cores import SHARE, cores_of_each, usable_cores
from lesion_exp.data.loaders import resolve_num_workers
from lesion_exp.dataset.image_files import locate_images
from lesion_exp.dataset.source_files import SourceFiles


def test_only_the_cores_that_this_process_may_use_count(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5})
    assert usable_cores() == 3


@pytest.mark.parametrize(
    ("of_slurm", "cores"),
    [
        ({}, 16),
        ({"SLURM_CPUS_ON_NODE": "6", "SLURM_NTASKS": "3"}, 6),  # a batch script
        ({"SLURM_CPUS_ON_NODE": "6", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2"}, 3),  # a task of srun
        ({"SLURM_CPUS_ON_NODE": "1", "SLURM_STEP_NUM_TASKS": "5", "SLURM_STEP_NUM_NODES": "2"}, 1),
        (
            {
                "SLURM_CPUS_ON_NODE": "6",
                "SLURM_STEP_NUM_TASKS": "1",
                "SLURM_STEP_NUM_NODES": "1",
                "SLURM_CPUS_PER_TASK": "2",
            },
            2,
        ),
        ({"SLURM_CPUS_ON_NODE": "64"}, 16),
        ({"SLURM_JOB_CPUS_PER_NODE": "6,2", "SLURM_CPUS_ON_NODE": "unknown"}, 16),
    ],
)
def test_cores_that_slurm_gave_to_others_do_not_count_where_it_does_not_bind_processes(monkeypatch, of_slurm, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))
    assert usable_cores(of_slurm) == cores


@pytest.mark.parametrize(("share", "expected"), [("2", 2), ("1", 1), ("0", 1), ("9", 3), ("", 3), ("two", 3)])
def test_a_process_counts_its_share_of_the_cores(monkeypatch, share, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5})
    monkeypatch.setenv(SHARE, share)
    assert usable_cores() == expected
    assert resolve_num_workers("auto", on_gpu=True) == expected


def test_the_processes_of_a_training_share_the_cores_of_their_machine(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))
    assert [cores_of_each(processes) for processes in (1, 4, 32)] == [16, 4, 1]
    assert resolve_num_workers("auto", on_gpu=True, processes=4) == 4
    assert resolve_num_workers("auto", on_gpu=False, decodes=True, processes=4) == 2
    assert resolve_num_workers(3, on_gpu=True, processes=4) == 3


@pytest.mark.parametrize(("tasks", "each"), [(1, 4), (2, 4), (4, 4)])
def test_tasks_of_srun_have_their_share_already(monkeypatch, tasks, each):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))
    of_srun = {"SLURM_CPUS_ON_NODE": "16", "SLURM_STEP_NUM_TASKS": str(tasks), "SLURM_STEP_NUM_NODES": "1"}
    assert cores_of_each(4, of_srun) == each


def test_a_system_that_does_not_tell_the_usable_cores_has_all_of_them(monkeypatch, tmp_path):
    """macOS has no `sched_getaffinity`."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert usable_cores() == 16
    assert resolve_num_workers("auto", on_gpu=True) == 12
    (tmp_path / "a.jpg").write_bytes(b"")
    assert locate_images(pd.Series(["a"]), SourceFiles(tmp_path)).tolist() == [str(tmp_path / "a.jpg")]
