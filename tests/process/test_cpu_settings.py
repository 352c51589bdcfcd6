import ctypes
import os
import resource
import shutil
import subprocess
import sys

import pytest

from lesion_exp.process.cpu_settings import VARIABLE, keep_freed_memory, limit_active_waiting

PAGES = 64 * 2**20 // resource.getpagesize()
MMAP_THRESHOLD = -3
FAULTS = """
import resource
from lesion_exp.process.cpu_settings import _keep, keep_freed_memory
from tests.process.test_cpu_settings import refuse_as_before_2_35

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(11):
        b"1" * (64 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
assert {way}
faults()  # until malloc has found places for all that is alive meanwhile
print(first, faults())
"""
ALLOCATOR = """
#include <stddef.h>
void *__libc_malloc(size_t size);
void *malloc(size_t size) { return __libc_malloc(size); }
"""
OF_MALLOC = (
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TOP_PAD_",
    "GLIBC_TUNABLES",
)
WITHOUT = {name: value for name, value in os.environ.items() if name not in OF_MALLOC}
needs_glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="another C library than glibc"
)
ASK = f"""
import sys
import lesion_exp
import os
assert "torch" not in sys.modules, "torch reads the setting when it is loaded"
print(os.environ.get({VARIABLE!r}), os.environ.get("OMP_WAIT_POLICY"))
"""


def refuse_as_before_2_35(option: int, value: int) -> int:
    return 0 if (option, value > 2**25) == (MMAP_THRESHOLD, True) else ctypes.CDLL(None).mallopt(option, value)


@needs_glibc
@pytest.mark.parametrize("way", ["keep_freed_memory()", "_keep(refuse_as_before_2_35)"])
def test_freed_memory_is_used_again_without_being_mapped_anew(way):
    answer = subprocess.run(
        [sys.executable, "-c", FAULTS.format(way=way)], env=WITHOUT, capture_output=True, text=True, check=True
    )
    before, after = map(int, answer.stdout.split())
    assert before > 10 * PAGES
    assert after < before / 10


@needs_glibc
@pytest.mark.parametrize(
    ("own", "is_set"),
    [
        ({}, True),
        ({"MALLOC_ARENA_MAX": "2", "GLIBC_TUNABLES": "glibc.cpu.x86_shstk=on"}, True),  # say nothing of freed memory
        ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False),
        ({"MALLOC_MMAP_THRESHOLD_": "131072"}, False),
        ({"MALLOC_MMAP_MAX_": "100"}, False),
        ({"MALLOC_TOP_PAD_": "0"}, False),
        ({"GLIBC_TUNABLES": "glibc.cpu.x86_shstk=on:glibc.malloc.trim_threshold=131072"}, False),
    ],
)
def test_what_the_user_says_of_freed_memory_is_kept(own, is_set):
    assert keep_freed_memory(own) is is_set


@needs_glibc
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler, with which the test makes an allocator")
def test_another_allocator_that_was_loaded_first_is_left_alone(tmp_path):
    source, library = tmp_path / "allocator.c", tmp_path / "allocator.so"
    source.write_text(ALLOCATOR)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    asked = "from lesion_exp.process.cpu_settings import keep_freed_memory; print(keep_freed_memory())"
    for added, expected in (({}, "True"), ({"LD_PRELOAD": str(library)}, "False")):
        answer = subprocess.run(
            [sys.executable, "-c", asked], env={**WITHOUT, **added}, capture_output=True, text=True, check=True
        )
        assert answer.stdout.strip() == expected


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
