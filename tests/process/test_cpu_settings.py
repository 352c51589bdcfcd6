import ctypes
import os
import resource
import subprocess
import sys

import pytest
import torch

from lesion_exp.process.cpu_settings import VARIABLE, keep_freed_memory, limit_active_waiting

PAGES = 64 * 2**20 // resource.getpagesize()
ASK = f"""
import sys
import lesion_exp
import os
assert "torch" not in sys.modules, "torch reads the setting when it is loaded"
print(os.environ.get({VARIABLE!r}), os.environ.get("OMP_WAIT_POLICY"))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="no glibc: its malloc cannot be asked")
def test_freed_memory_is_used_again_without_being_mapped_anew() -> None:
    assert keep_freed_memory()
    for _ in range(10):  # until malloc has found places for all that is alive meanwhile
        torch.ones(64 * 2**20, dtype=torch.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(64 * 2**20, dtype=torch.uint8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 10 * PAGES / 4


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, "10000 None"),
        ({"GOMP_SPINCOUNT": "infinity"}, "infinity None"),
        ({"OMP_WAIT_POLICY": "active"}, "None active"),
    ],
)
def test_the_package_sets_it_before_torch_is_loaded_and_keeps_what_the_user_set(own, expected):
    others = {name: value for name, value in os.environ.items() if name not in (VARIABLE, "OMP_WAIT_POLICY")}
    answer = subprocess.run(
        [sys.executable, "-c", ASK], env={**others, **own}, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == expected


def test_nothing_else_is_changed():
    environment = {"OMP_NUM_THREADS": "2"}
    limit_active_waiting(environment)
    assert environment == {"OMP_NUM_THREADS": "2", VARIABLE: "10000"}
