"""The base classes of searches, which choose cells in advance, or one after another from earlier results."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from lesion_exp.errors import ConfigError, check_choice
from lesion_exp.evaluation.registry import WATCHED_METRIC
from lesion_exp.sweeps.search.dimension import Dimension, split_overrides

DIRECTIONS: Final = ("maximize", "minimize")
Suggestion = tuple[str, ...]
"""The overrides that make one cell."""


class Search(Sweeper):
    """Base class of the options of `conf/search`, which compare cells by validation metrics.

    The driver of a sweep asks it for cells. It is a Hydra sweeper as well: an application that uses Hydra can name it
    in `hydra.sweeper`, and then runs the cells one after another.

    Raises:
        ConfigError: a metric is not one of validation, or a direction does not exist.
    """

    def __init__(
        self, metric: str | Sequence[str], direction: str | Sequence[str], space: Mapping[str, Any] | None = None
    ) -> None:
        self.metrics = [metric] if isinstance(metric, str) else [str(name) for name in metric]
        self.directions = [direction] if isinstance(direction, str) else [str(word) for word in direction]
        plain = OmegaConf.to_container(space, resolve=True) if isinstance(space, DictConfig) else space  # from Hydra
        self.space: Mapping[str, Any] = plain or {}  # type: ignore[assignment]
        for name in self.metrics:
            if not name.startswith("val/"):
                raise ConfigError(
                    f"expected search.metric to be one of validation, such as {WATCHED_METRIC}, got {name!r}: "
                    f"a choice that is made on the test part cannot be evaluated on it"
                )
        for word in self.directions:
            check_choice("search.direction", word, DIRECTIONS)
        if len(self.metrics) != len(self.directions):
            raise ConfigError(
                f"expected a direction for each metric, got {len(self.metrics)} metrics and {len(self.directions)} "
                f"directions; for example search.metric=[{WATCHED_METRIC},val/loss] "
                f"search.direction=[maximize,minimize]"
            )

    @abstractmethod
    def all_cells(self, dimensions: Sequence[Dimension]) -> list[Suggestion] | None:
        """All cells, or None if the results of earlier cells decide.

        Raises:
            ConfigError: the search cannot handle the dimensions.
        """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra: stores the task to run."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """Called by Hydra: runs the cells of `arguments` one after another in this process."""
        fixed, dimensions = self._split(arguments)
        cells = self.all_cells(dimensions) or []
        return [self._run(number, [*fixed, *cell]) for number, cell in enumerate(cells)]

    def _split(self, arguments: list[str]) -> tuple[list[str], list[Dimension]]:
        assert self.hydra_context is not None, "Hydra calls setup first"
        return split_overrides(arguments, self.hydra_context.config_loader, self.space)

    def _run(self, number: int, overrides: list[str]) -> JobReturn:
        assert self.hydra_context is not None, "Hydra calls setup first"
        assert self.config is not None, "Hydra calls setup first"
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
        return run_job(
            task_function=self.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=self.hydra_context,
        )


class AdaptiveSearch(Search):
    """A search that chooses the next cell from the results of earlier ones, and stores its state in a folder."""

    @abstractmethod
    def begin(self, dimensions: Sequence[Dimension], folder: Path, known: Collection[int] = ()) -> None:
        """Opens the state of the search in `folder`, so that it continues where it stopped.

        Unfinished trials whose numbers are not in `known` never became cells, and are dropped.
        """

    @abstractmethod
    def ask(self) -> tuple[int, Suggestion] | None:
        """The number and the overrides of the next cell; None if there are no more."""

    @abstractmethod
    def drop(self, number: int) -> None:
        """Withdraws a proposal that does not become a cell; it does not count."""

    @abstractmethod
    def tell(self, number: int, values: Sequence[float] | None, *, pruned: bool = False) -> None:
        """Reports the results of a cell in the order of `metrics`, None if it failed; a second report is ignored."""

    @abstractmethod
    def most_cells(self) -> int:
        """The largest number of cells."""

    @abstractmethod
    def should_stop(self, number: int, epoch: int, value: float) -> bool:
        """Whether to prune a cell whose first metric is `value` after `epoch`."""

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """Called by Hydra: runs the proposed cells in this process and reports their results, until none is left."""
        assert self.config is not None, "Hydra calls setup first"
        fixed, dimensions = self._split(arguments)
        self.all_cells(dimensions)
        self.begin(dimensions, Path(self.config.hydra.sweep.dir))
        done: list[JobReturn] = []
        while (asked := self.ask()) is not None:
            done.append(self._run(asked[0], [*fixed, *asked[1]]))
            if done[-1].status != JobStatus.COMPLETED:
                self.tell(asked[0], None)
            value = done[-1].return_value  # raises what the task raised
            self.tell(asked[0], [float(part) for part in (value if isinstance(value, Sequence) else [value])])
        return done


def better(direction: str, value: float, than: float) -> bool:
    """Whether `value` is better than `than` in this direction."""
    return value > than if direction == "maximize" else value < than
