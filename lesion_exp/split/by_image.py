"""A split by image, as in many published notebooks, in which photographs of one lesion are in several parts."""

from __future__ import annotations

from typing import ClassVar

from lesion_exp.split.grouped import Grouped


class ByImage(Grouped):
    """Splits the images at random, stratified by class, without regard to lesions and patients. It leaks.

    It exists to measure how much the leakage raises the metrics.

    Args:
        seed: seed of the split.
        ratios: shares of the images in `train`, `val` and `test`.

    Raises:
        ConfigError: `ratios` are not positive shares that add up to 1.
    """

    leaks = True
    together: ClassVar = "row_id"
