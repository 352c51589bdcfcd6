"""A search that draws values at random."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.registry import Direction
from lesion_exp.sweeps.search.search import Dimension, Search, Suggestion

log = logging.getLogger(__name__)
_FRUITLESS_DRAWS: Final = 1000
"""Consecutive draws of known cells after which the search gives up."""


class RandomSearch(Search):
    """Draws `num_cells` different cells, each key independently; the same `seed` gives the same cells.

    Raises:
        ConfigError: `num_cells` is less than 1.
    """

    def __init__(
        self,
        metric: str | Sequence[str],
        direction: Direction | Sequence[Direction],
        num_cells: int,
        seed: int,
        space: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(metric, direction, space)
        if num_cells < 1:
            raise ConfigError(f"expected search.num_cells of at least 1, got {num_cells}")
        self.num_cells, self.seed = num_cells, seed

    def all_cells(self, dimensions: Sequence[Dimension]) -> list[Suggestion]:
        """See the base class."""
        draws = random.Random(self.seed)
        cells: dict[Suggestion, None] = {}
        fruitless = 0
        while len(cells) < self.num_cells and fruitless < _FRUITLESS_DRAWS:
            before = len(cells)
            cells[tuple(_draw(dimension, draws) for dimension in dimensions)] = None
            fruitless = 0 if len(cells) > before else fruitless + 1
        if len(cells) < self.num_cells:
            log.warning(
                "search.num_cells=%d asks for more cells than there are combinations of the values: %d cells are tried",
                self.num_cells, len(cells),
            )  # fmt: skip
        return list(cells)


def _draw(dimension: Dimension, draws: random.Random) -> str:
    if dimension.values:
        return dimension.override(draws.choice(dimension.values))
    low, high = dimension.low, dimension.high
    if dimension.is_integer and not dimension.is_log:
        return dimension.override(draws.randint(int(low), int(high)))
    if dimension.is_log:
        value = math.exp(draws.uniform(math.log(low), math.log(high)))
        return dimension.override(min(round(value), int(high)) if dimension.is_integer else float(f"{value:.6g}"))
    return dimension.override(float(f"{draws.uniform(low, high):.6g}"))
