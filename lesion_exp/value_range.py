"""The ranges of numbers that single options take.

The constructor of an option and the check of a config both read them here. A config is checked before anything large is
imported, so this module imports nothing but the standard library. Ranges of keys that every config has are in
`lesion_exp/config/schema.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lesion_exp.errors import ConfigError


@dataclass(frozen=True)
class ValueRange:
    """Numbers from `low` to `high`."""

    low: float
    high: float = math.inf
    above: bool = False
    """Whether `low` itself is left out."""
    below: bool = False
    """Whether `high` itself is left out."""
    usual: str = ""
    """The end of a message: what is usual."""

    def holds(self, value: float) -> bool:
        """Returns whether `value` is in the range; NaN is not."""
        is_high_enough = value > self.low if self.above else value >= self.low
        return is_high_enough and (value < self.high if self.below else value <= self.high)

    @property
    def words(self) -> str:
        """The range in a message."""
        if math.isinf(self.high):
            return f"above {self.low:g}" if self.above else f"at least {self.low:g}"
        return f"in {'(' if self.above else '['}{self.low:g}, {self.high:g}{')' if self.below else ']'}"


RANGES: Final[Mapping[str, ValueRange]] = {
    "loss.beta": ValueRange(0, 1, below=True, usual="0.999 to 0.9999 are usual values"),
    "loss.defer_epoch": ValueRange(0, 1, usual="it is a share of the epochs, and 0.8 is usual"),
    "loss.gamma": ValueRange(0, usual="2 is a usual value"),
    "loss.label_share": ValueRange(0, 1, usual="0.1 is a usual value"),
    "loss.label_smoothing": ValueRange(0, 1, below=True, usual="0.1 is a usual value"),
    "loss.max_margin": ValueRange(0, usual="0.5 is a usual value"),
    "loss.power": ValueRange(0, usual="0.5 is a usual value"),
    "loss.scale": ValueRange(0, above=True, usual="1 suits unnormalised logits"),
    "loss.tau": ValueRange(0, usual="1 is a usual value"),
    "loss.temperature": ValueRange(0, above=True, usual="1 to 10 are usual values"),
    "scheduler.drop_epochs": ValueRange(1, usual="10 is the default"),
    "scheduler.factor": ValueRange(0, 1, above=True, below=True, usual="0.5 halves the learning rate"),
    "scheduler.gamma": ValueRange(0, 1, above=True, usual="0.1 divides the learning rate by ten"),
    "scheduler.warmup_epochs": ValueRange(0, usual="1 is usual"),
    "scheduler.warmup_fraction": ValueRange(
        0, 1, above=True, below=True, usual="it is a share of the training, and 0.3 is the default"
    ),
}
"""The range of each key that options of this package have."""


def check_range(key: str, value: float) -> None:
    """Checks that `value` is in the range of `key`, one of `RANGES`.

    Raises:
        ConfigError: it is not.
    """
    known = RANGES[key]
    if not known.holds(value):
        raise ConfigError(f"expected {key} to be {known.words}, got {value}; {known.usual}")
