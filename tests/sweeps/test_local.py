"""The launcher that runs cells on this machine: what it tells the process that forks them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lesion_exp.sweeps.launcher import local
from lesion_exp.sweeps.launcher.local import LocalLauncher


def cells_of(number, devices=1):
    job = SimpleNamespace(config={"trainer": {"devices": devices, "accelerator": "cpu"}})
    return [SimpleNamespace(folder=str(place), number=place, job=lambda: job) for place in range(number)]


def told_of(monkeypatch, workers, devices=1):
    """What the process that forks the cells is told, with a cell for each of the workers."""
    launcher, told = LocalLauncher(workers, 0, fail_fast=False), []
    launcher._free = [()] * workers
    monkeypatch.setattr(launcher, "_tell", told.append)
    launcher.start(cells_of(workers, devices))
    assert len(told) == workers
    return told


@pytest.mark.parametrize(("workers", "share"), [(1, None), (2, "4"), (3, "2"), (16, "1")])
def test_cells_that_run_at_once_share_the_cores(monkeypatch, workers, share):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(local, "usable_cores", lambda: 8)
    for command in told_of(monkeypatch, workers):
        environment = command["environment"]
        assert (environment.get("OMP_NUM_THREADS"), environment.get("LESION_EXP_CORES")) == (share, share)
        assert command["threads"] == int(share or 0)


def test_a_cell_has_no_more_threads_than_the_user_says_and_divides_its_share(monkeypatch):
    monkeypatch.setattr(local, "usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for of_user, devices, threads in ((None, 2, 2), ("1", 1, 1), ("3", 1, 3)):
        if of_user:
            monkeypatch.setenv("OMP_NUM_THREADS", of_user)
        for command in told_of(monkeypatch, 2, devices):
            assert command["threads"] == threads
            assert command["environment"]["OMP_NUM_THREADS"] == str(threads)
            assert command["environment"]["LESION_EXP_CORES"] == "4", "the loaders share the cores, too"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fork_server_that_was_killed_is_answered_with_the_command_that_goes_on(workers):
    launcher = LocalLauncher(workers, 0, fail_fast=False)
    launcher.warm_up()
    launcher.open(SimpleNamespace(facts=SimpleNamespace(sweep_id="20261201-120000-1234")))
    cells = cells_of(workers + 1)
    launcher._cells = {cell.folder: cell for cell in cells[:workers]}
    launcher._leases = {cell.folder: launcher._free.pop() for cell in cells[:workers]}
    launcher._process.kill()
    launcher._process.wait()
    ended = launcher.wait(20.0)
    assert [one.cell for one in ended] == cells[:workers]
    assert {one.reason for one in ended} == {"the process that started all cells has ended"}
    assert launcher.capacity == workers
    with pytest.raises(RuntimeError, match="lesion-exp sweep resume 20261201-120000-1234 continues the sweep"):
        launcher.start(cells[workers:])
    launcher.close()
