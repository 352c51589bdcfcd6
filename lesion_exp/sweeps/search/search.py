"""The base classes of searches, which choose cells in advance or from earlier results, and what they search over."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args

from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override
from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from lesion_exp.config.overrides import OptionNames, parse_overrides, quoted
from lesion_exp.config.shipped_conf import group_names, option_names, required_keys
from lesion_exp.errors import ConfigError, check_choice
from lesion_exp.evaluation.registry import WATCHED_METRIC, Direction

log = logging.getLogger(__name__)

Suggestion = tuple[str, ...]
"""The overrides that make one cell."""
_FOUND: Final = ("dataset.root",)
"""Required keys whose value is found by the name of the option if no override gives it."""


@dataclass(frozen=True)
class Dimension:
    """A key with several values: either the list `values`, or the interval from `low` to `high`."""

    key: str
    """The text before the equals sign, with a plus if it has one."""
    values: tuple[str, ...] = ()
    """Spelled in Hydra's grammar."""
    low: float = 0.0
    high: float = 0.0
    is_integer: bool = False
    is_log: bool = False
    """Whether to draw uniformly in the logarithm."""

    @property
    def is_interval(self) -> bool:
        """Whether it is an interval."""
        return not self.values

    def override(self, value: str | float) -> str:
        """`key=value` in Hydra's grammar, with all digits of a number."""
        return f"{self.key}={value if isinstance(value, str) else repr(value)}"


class GroupOptions:
    """Lists the options of config groups for Hydra's `glob(..)`."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self._said: set[str] = set()

    def get_group_options(self, group_name: str, results_filter: Any = None) -> list[str]:
        """Returns the options of a group; `results_filter` is not used."""
        if group_name not in group_names(self.folders):
            raise ConfigError(f"expected a config group before =glob(..), got {group_name}")
        return option_names(group_name, self.folders)

    def with_values(self, dimension: Dimension, given: Collection[str]) -> Dimension:
        """Returns `dimension`, options of a group, without those that need a value which no key in `given` has.

        The log says which options are left out, and why.

        Raises:
            ConfigError: no option is left, or a key in `given` is needed by some of them alone.
        """
        group, _, package = dimension.key.lstrip("+").partition("@")
        node, lacking, takers = package or group.replace("/", "."), {}, defaultdict[str, list[str]](list)
        for name in dimension.values:
            keys = [f"{node}.{key}" for key in required_keys(group, name, self.folders)]
            if missing := [f"{key}=VALUE" for key in keys if key not in given and key not in _FOUND]:
                lacking[name] = " ".join(missing)
            for key in set(keys).intersection(given).difference(_FOUND):
                takers[key].append(name)
        left = tuple(name for name in dimension.values if name not in lacking)
        _check_takers(dimension.key, group, left, takers)
        if not lacking:
            return dimension
        told = ", ".join(f"{name} (which needs {words})" for name, words in lacking.items())
        if not left:
            raise ConfigError(
                f"expected options of {group} that need no further value, got {told} by {dimension.key}=glob(..); name "
                f"one of them, and give its value"
            )
        if told not in self._said:
            log.info("%s=glob(..) leaves out %s", dimension.key, told)
        self._said.add(told)
        return replace(dimension, values=left)


def _check_takers(glob: str, group: str, options: Sequence[str], takers: Mapping[str, Sequence[str]]) -> None:
    """Checks that all `options` of a glob need each of the given keys, which are mapped to those that do.

    Others do not know the key, or would all get the one value: `backbone.name` makes one network of all.

    Raises:
        ConfigError: only some of them need a key.
    """
    for key, names in takers.items():
        if not set(options) <= set(names):
            raise ConfigError(
                f"expected beside {glob}=glob(..) no key that some options of {group} alone need, got {key} (needed by "
                f"{', '.join(names)}); leave {key} out, and run a sweep of its own with {glob}={','.join(names)} "
                f"{key}=VALUE"
            )


def dimension_of(override: Override) -> Dimension:
    """Returns the dimension that a sweep override describes.

    Raises:
        ConfigError: it has no values, or the interval is empty.
    """
    key, value = override.get_key_element(), override._value
    if isinstance(value, IntervalSweep):
        return _interval(override, key, value)
    try:
        values = tuple(override.sweep_string_iterator())
    except HydraException as error:
        raise ConfigError(f"expected values to try for {key}, got {override.input_line}: {error}") from error
    if not values:
        raise ConfigError(f"expected at least one value to try for {key}, got none in {override.input_line}")
    tags = value.tags if isinstance(value, ChoiceSweep) else set()
    if tags:
        raise ConfigError(f"expected tag(log, ..) around an interval only, got {override.input_line}")
    return Dimension(key, values)


def _interval(override: Override, key: str, value: IntervalSweep) -> Dimension:
    low, high = value.start, value.end
    if low is None or high is None or not low < high:
        raise ConfigError(f"expected an interval from a smaller to a larger number, got {override.input_line}")
    if value.tags - {"log"}:
        raise ConfigError(f"expected log as the only tag of an interval, got {override.input_line}")
    if "log" in value.tags and low <= 0:
        raise ConfigError(f"expected an interval above 0 for tag(log, ..), got {override.input_line}")
    is_integer = isinstance(low, int) and isinstance(high, int)
    return Dimension(key, low=low, high=high, is_integer=is_integer, is_log="log" in value.tags)


def split_overrides(
    overrides: Sequence[str], options: OptionNames, space: Mapping[str, Any]
) -> tuple[list[str], list[Dimension]]:
    """Splits overrides into those with one value and the dimensions of a search space.

    Args:
        overrides: of the command line; they replace the same keys of `space`.
        options: lists the options for `GROUP=glob(..)`.
        space: the node `search.space`.

    Raises:
        ConfigError: a text is no override, or has no values to try.
    """
    parsed = parse_overrides(overrides, options)
    said = {str(override.key_or_group) for override in parsed}
    from_space = parse_overrides([text for key, text in _flat(space) if key not in said], options)
    fixed = [override for override in [*parsed, *from_space] if not override.is_sweep_override()]
    several = [override for override in [*parsed, *from_space] if override.is_sweep_override()]
    doubled = [str(override.key_or_group) for override in several]
    for key in doubled:
        if doubled.count(key) > 1:
            raise ConfigError(f"expected the values of {key} once, got them {doubled.count(key)} times")
    given = {str(override.key_or_group) for override in [*fixed, *several]}
    dimensions = [
        options.with_values(dimension_of(each), given)
        if isinstance(options, GroupOptions) and isinstance(each._value, Glob)
        else dimension_of(each)
        for each in several
    ]
    return [text.input_line or "" for text in fixed], dimensions


def _flat(space: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Keys and overrides of a search space in YAML; `{optimizer: {lr: ..}}` and `{optimizer.lr: ..}` are equal."""
    for name, value in space.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
            continue
        text = ",".join(_element(key, element) for element in value) if isinstance(value, list) else _spelt(value)
        yield key.lstrip("+"), f"{key}={text}"


def _element(key: str, value: Any) -> str:
    """A value to try in Hydra's grammar; text that would be read differently is quoted."""
    spelt = _spelt(value)
    if not isinstance(value, str):
        return spelt
    try:
        (read,) = parse_overrides([f"{key}={spelt}"])
    except ConfigError:
        return quoted(value)
    return spelt if not read.is_sweep_override() and read.value() == value else quoted(value)


def _spelt(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    return str(value)


class Search(Sweeper):
    """Base class of the options of `conf/search`, which compare cells by validation metrics.

    The driver of a sweep asks it for cells. It is a Hydra sweeper as well: an application that uses Hydra can name it
    in `hydra.sweeper`, and then runs the cells one after another.

    Raises:
        ConfigError: a metric is not one of validation, or a direction does not exist.
    """

    def __init__(
        self,
        metric: str | Sequence[str],
        direction: Direction | Sequence[Direction],
        space: Mapping[str, Any] | None = None,
    ) -> None:
        self.metrics = [metric] if isinstance(metric, str) else [str(name) for name in metric]
        self.directions = [direction] if isinstance(direction, str) else [str(word) for word in direction]
        plain = OmegaConf.to_container(space, resolve=True) if isinstance(space, DictConfig) else space  # from Hydra
        self.space: Mapping[str, Any] = plain or {}  # type: ignore[assignment]
        for name in self.metrics:
            if not name.startswith("val/"):
                raise ConfigError(
                    f"expected search.metric to be a metric of validation, such as {WATCHED_METRIC}, got {name!r}: "
                    f"a choice that is made on the test part cannot be evaluated on it"
                )
        for word in self.directions:
            check_choice("search.direction", word, get_args(Direction))
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
        """Returns the number and the overrides of the next cell; None if there are no more."""

    @abstractmethod
    def drop(self, number: int) -> None:
        """Withdraws a proposal that does not become a cell; it does not count."""

    @abstractmethod
    def tell(self, number: int, values: Sequence[float] | None, *, pruned: bool = False) -> None:
        """Reports the results of a cell in the order of `metrics`, None if it failed; a second report is ignored."""

    @abstractmethod
    def most_cells(self) -> int:
        """Returns the largest number of cells."""

    @abstractmethod
    def should_stop(self, number: int, epoch: int, value: float) -> bool:
        """Returns whether to prune a cell whose first metric is `value` after `epoch`."""

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
    """Returns whether `value` is better than `than` in this direction."""
    return value > than if direction == "maximize" else value < than
