"""The launcher that runs cells on this machine: what it tells the process that forks them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lesion_exp.sweeps.launcher import local
from lesion_exp.sweeps.launcher.local import LocalLauncher


@pytest.mark.parametrize(("workers", "share"), [(1, None), (2, "4"), (3, "2"), (16, "1")])
def test_cells_that_run_at_once_share_the_cores(monkeypatch, workers, share):
    monkeypatch.setattr(local, "usable_cores", lambda: 8)
    launcher, told = LocalLauncher(workers, 0, fail_fast=False), []
    launcher._free = [()] * workers
    monkeypatch.setattr(launcher, "_tell", told.append)
    launcher.start([SimpleNamespace(folder=str(number)) for number in range(workers)])
    assert len(told) == workers
    for command in told:
        environment = command["environment"]
        assert (environment.get("OMP_NUM_THREADS"), environment.get("LESION_EXP_CORES")) == (share, share)
        assert command["threads"] == int(share or 0)
