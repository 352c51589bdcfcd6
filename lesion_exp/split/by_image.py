"""The split of many notebooks: image by image, so that photographs of one lesion lie on both sides."""

from __future__ import annotations

from typing import ClassVar

from lesion_exp.split.grouped import Grouped


class ByImage(Grouped):
    """Stratified by class, blind to lesions and patients: it leaks, and is here to measure how much.

    Args:
        seed: of the draw.
        ratios: share of the images in `train`, `val` and `test`.

    Raises:
        ConfigError: ratios that do not add up to 1.
    """

    leaks = True
    together: ClassVar = "row_id"
