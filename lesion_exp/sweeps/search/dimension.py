"""The dimensions of a search space: keys with values to choose from, or an interval to draw from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override
from hydra.errors import HydraException

from lesion_exp.config.overrides import OptionNames, parse_overrides, quoted
from lesion_exp.config.shipped_conf import group_names, option_names
from lesion_exp.errors import ConfigError


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

    def get_group_options(self, group_name: str, results_filter: Any = None) -> list[str]:
        """The options of a group; `results_filter` is not used."""
        if group_name not in group_names(self.folders):
            raise ConfigError(f"expected a config group before =glob(..), got {group_name}")
        return option_names(group_name, self.folders)


def dimension_of(override: Override) -> Dimension:
    """The dimension that a sweep override describes.

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
    return [text.input_line or "" for text in fixed], [dimension_of(override) for override in several]


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
