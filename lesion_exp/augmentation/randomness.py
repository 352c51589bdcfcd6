"""The generators of one sample: a function of a seed, and cheap to make, for there is a pair for every sample."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Sequence
from typing import Final

import numpy as np

_MASK: Final = 2**128 - 1


class _Kept(threading.local):
    """numpy's generator of this thread: giving it a state costs a tenth of making another."""

    def __init__(self) -> None:
        self.bits = np.random.PCG64(0)
        self.generator = np.random.Generator(self.bits)
        self.state = self.bits.state


_KEPT: Final = _Kept()


def generators(seed: Sequence[int]) -> tuple[np.random.Generator, random.Random]:
    """A pair of generators for `seed`, non-negative integers; numpy's is valid until the next call in this thread."""
    digest = hashlib.blake2b(",".join(map(str, seed)).encode(), digest_size=48).digest()
    numbers = int.from_bytes(digest, "little")
    state = _KEPT.state
    state["state"] = {"state": numbers & _MASK, "inc": (numbers >> 128) & _MASK | 1}
    _KEPT.bits.state = state
    return _KEPT.generator, random.Random(numbers >> 256)
