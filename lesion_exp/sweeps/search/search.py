"""What a search is: it turns the values to try into cells, all at once or one after another as results come in."""

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
    """Base of the options of `conf/search`. Only validation metrics are looked at.

    The sweep's driver asks it for cells. It is a Hydra sweeper as well: an application of Hydra's own can name it in
    `hydra.sweeper` once it is registered with Hydra's plugins, and runs its trials one after another.

    Raises:
        ConfigError: a metric that is not one of validation, or a direction that does not exist.
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
                    f"what is chosen by the test part cannot be tested on it"
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
        """Every cell, where they are known beforehand; None where results of earlier cells decide.

        Raises:
            ConfigError: dimensions that cannot be searched so.
        """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's entry: remembers what to run."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """Hydra's entry: runs the cells of `arguments` one after another in this process."""
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
    """A search that chooses the next cell from what those before came to; it keeps what it knows in a folder."""

    @abstractmethod
    def begin(self, dimensions: Sequence[Dimension], folder: Path, known: Collection[int] = ()) -> None:
        """Opens what the search keeps in `folder`, so that it goes on where it stopped.

        What it was asked for and is not among the numbers `known`, and was never told about, never became a cell.
        """

    @abstractmethod
    def ask(self) -> tuple[int, Suggestion] | None:
        """The number and overrides of the next cell; None when there are no more."""

    @abstractmethod
    def drop(self, number: int) -> None:
        """Takes back a cell that was asked for and cannot be made; it does not count."""

    @abstractmethod
    def tell(self, number: int, values: Sequence[float] | None, *, pruned: bool = False) -> None:
        """What the cell came to, in the order of `metrics`; None where it failed. Telling it twice does nothing."""

    @abstractmethod
    def most_cells(self) -> int:
        """How many cells there will be at most."""

    @abstractmethod
    def should_stop(self, number: int, epoch: int, value: float) -> bool:
        """Whether a cell whose first metric is `value` after `epoch` is not worth its time."""

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """Hydra's entry: asks for a cell, runs it in this process and tells what it came to, until none is left."""
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
    """Whether `value` is the better one."""
    return value > than if direction == "maximize" else value < than
