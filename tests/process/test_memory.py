import ctypes
import resource

import pytest
import torch

from lesion_exp.process.memory import keep_freed_memory

PAGES = 64 * 2**20 // resource.getpagesize()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="no glibc: its malloc cannot be asked")
def test_freed_memory_is_used_again_without_being_mapped_anew() -> None:
    assert keep_freed_memory()
    for _ in range(10):  # until malloc has found places for all that is alive meanwhile
        torch.ones(64 * 2**20, dtype=torch.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(64 * 2**20, dtype=torch.uint8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 10 * PAGES / 4
