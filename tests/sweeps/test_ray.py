import importlib.util

import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.sweeps.launcher.launcher import make_launcher
from lesion_exp.sweeps.launcher.ray import RayLauncher

NODE = {
    "_target_": "lesion_exp.sweeps.launcher.ray.RayLauncher",
    "address": "local",
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
        launcher().check_room(there)
    without = launcher(resources={})
    without.check_room(there)
    assert without.options()["num_gpus"] == 0, "a cluster without GPUs is used without"
    launcher(address="auto").check_room(there)  # it may grow


def test_the_missing_package_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"expected the package ray for the launcher RayLauncher.*pip install ray"):
        make_launcher(NODE)
