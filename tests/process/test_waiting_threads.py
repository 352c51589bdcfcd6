import os
import subprocess
import sys

import pytest

from lesion_exp.process.waiting_threads import VARIABLE, limit_active_waiting

ASK = f"""
import sys
import lesion_exp
import os
assert "torch" not in sys.modules, "torch reads the setting when it is loaded"
print(os.environ.get({VARIABLE!r}), os.environ.get("OMP_WAIT_POLICY"))
"""


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
