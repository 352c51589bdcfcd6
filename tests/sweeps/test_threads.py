"""How many threads the processes of a cell start."""

from types import SimpleNamespace

import pytest

from lesion_exp.sweeps.launcher.threads import THREADS, num_threads


def cell(devices="auto", accelerator="auto"):
    job = SimpleNamespace(config={"trainer": {"devices": devices, "accelerator": accelerator}})
    return SimpleNamespace(job=lambda: job)


@pytest.mark.parametrize(
    ("of_user", "threads"), [(None, 4), ("1", 1), ("3,2", 3), ("16", 4), ("0", 4), ("many", 4), ("", 4)]
)
def test_a_smaller_number_of_the_user_is_kept(monkeypatch, of_user, threads):
    monkeypatch.delenv(THREADS, raising=False)
    if of_user is not None:
        monkeypatch.setenv(THREADS, of_user)
    assert num_threads(cell(), 4, 0) == threads


@pytest.mark.parametrize(
    ("devices", "accelerator", "gpus", "threads"),
    [
        (1, "auto", 0, 8), (2, "cpu", 0, 4), ([0, 3], "gpu", 2, 4), ("auto", "auto", 4, 2), (-1, "gpu", 2, 4),
        ("auto", "auto", 0.5, 8), ("auto", "cpu", 4, 8), (16, "cpu", 0, 1),
    ],
)  # fmt: skip
def test_the_processes_of_a_cell_share_its_cores(monkeypatch, devices, accelerator, gpus, threads):
    monkeypatch.delenv(THREADS, raising=False)
    assert num_threads(cell(devices, accelerator), 8, gpus) == threads
