"""A search that tries every combination of the values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final

from lesion_exp.errors import ConfigError
from lesion_exp.sweeps.search.search import Dimension, Search, Suggestion

MOST_CELLS: Final = 10_000


class GridSearch(Search):
    """The product of all values; the last key changes fastest, as in Hydra's sweeper."""

    def all_cells(self, dimensions: Sequence[Dimension]) -> list[Suggestion]:
        """See the base class.

        Raises:
            ConfigError: a dimension is an interval, or there are more than 10,000 combinations.
        """
        for dimension in dimensions:
            if dimension.is_interval:
                raise ConfigError(
                    f"expected values that can be counted for {dimension.key} in a grid, got an interval; "
                    f"search=random and search=optuna draw from intervals"
                )
        count = math.prod(len(dimension.values) for dimension in dimensions)
        if count > MOST_CELLS:
            raise ConfigError(f"expected at most {MOST_CELLS:,} cells, got {count:,}; search=random tries some of them")
        choices = [[dimension.override(value) for value in dimension.values] for dimension in dimensions]
        return list(itertools.product(*choices))
