"""From overrides to one resolved config, with Hydra's grammar and messages that name the nearest right name.

Hydra is imported inside the functions: a process that trains from a job file never needs it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lesion_exp.errors import ConfigError, nearest
from lesion_exp.job.check import (
    check_config,
    explain_missing,
    is_open,
    refuse_fixed_trainer_argument,
    unknown_key,
)
from lesion_exp.job.shipped_conf import conf_dir, default_options, find_root, group_names, option_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

PRESETS: Final = ("experiment", "debug")
"""Groups whose options override others: `null` (none of them) is a choice there."""
HYDRA_VERSION_BASE: Final = "1.3"
_SEARCHED: Final = re.compile(r"Could not find '(?P<group>.+)/(?P<option>[^/']+)'")


@dataclass(frozen=True)
class Composed:
    """A resolved config and what it was made of."""

    config: dict[str, Any]
    overrides: list[str]
    """As the user wrote them."""
    choices: dict[str, str | None]
    """Group -> option, for every group in the defaults list."""
    root: Path


@dataclass(frozen=True)
class _Request:
    """The overrides of one command, told apart."""

    folders: list[Path]
    groups: list[str] = field(default_factory=list)
    values: list[Override] = field(default_factory=list)


def compose(overrides: Sequence[str], *, config_dirs: Iterable[str | Path] = (), root: Path | None = None) -> Composed:
    """The config that `overrides` ask for, resolved and checked.

    `config_dirs` are folders with options of the user's own, laid out like `conf`. `root` is the folder for runs and
    caches (`paths.root`): by default the checkout at or above the current folder, else that folder.

    Raises:
        ConfigError: a syntax error, an unknown group, option or key, a value of a wrong type or outside its range, a
            key that must be given and is not.
    """
    folders = [conf_dir(), *_own_folders(config_dirs)]
    root = find_root(Path.cwd()) if root is None else root.resolve()
    request = _sort_out(overrides, folders)
    with _hydra(folders) as load:
        base, choices = load(request.groups)
        known = _plain(base, root)
        values = [_spell_out(override, known) for override in request.values]
        config, _ = load([*request.groups, *values])
        shipped = known if not any(choices.get(preset) for preset in PRESETS) else _plain(load(_bare(choices))[0], root)
    resolved = _resolve(config, root, [override.key_or_group for override in request.values])
    presets = [f"{preset}={choices[preset]}" for preset in PRESETS if choices.get(preset)]
    given = {override.key_or_group for override in request.values}
    checked = check_config(resolved, shipped, given, presets)
    groups = {group: choices.get(group) for group in default_options(folders[0])}
    return Composed(checked, list(overrides), groups, root)


def _own_folders(config_dirs: Iterable[str | Path]) -> list[Path]:
    folders = []
    for given in config_dirs:
        folder = Path(given).expanduser().resolve()
        if not folder.is_dir():
            raise ConfigError(
                f"expected a folder with config groups after --config-dir, got {given}; is it spelled right?"
            )
        hidden = [path for path in sorted(folder.rglob("*.yaml")) if (conf_dir() / path.relative_to(folder)).is_file()]
        if hidden:
            raise ConfigError(
                f"expected options with names of their own in {given}, but {hidden[0].relative_to(folder)} is shipped "
                f"already, and the shipped one would win; rename yours"
            )
        if not group_names([folder]):
            groups = ", ".join(default_options(conf_dir()))
            raise ConfigError(
                f"expected GROUP/OPTION.yaml files in {given}, got none; the groups are {groups}: put a loss of your own "
                f"into {given}/loss/NAME.yaml"
            )
        folders.append(folder)
    return folders


def _sort_out(overrides: Sequence[str], folders: list[Path]) -> _Request:
    groups = set(group_names(folders))
    request = _Request(folders)
    seen: dict[str, str] = {}
    for text in overrides:
        override = _parse(text)
        key = override.key_or_group
        name = key if override.package is None else f"{key}@{override.package}"
        if name in seen:
            raise ConfigError(f"expected {name} once, got {seen[name]} and {text}; take one of them out")
        seen[name] = text
        if key in groups:
            request.groups.append(_group_choice(override, folders))
        elif override.package is not None or "/" in key:
            raise ConfigError(f"expected a config group before '=', got {text}; {nearest(key, groups)}")
        else:
            request.values.append(override)
    return request


def _parse(text: str) -> Override:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import OverrideType
    from hydra.errors import HydraException

    key, equals, value = text.partition("=")
    if text.startswith("~"):
        raise ConfigError(
            f"expected key=value, got {text}: nothing can be deleted from a config; most keys that can be switched off "
            f"take null or none"
        )
    if not equals:
        raise ConfigError(f"expected key=value, got {text!r} without '='; for example seed=1 or loss=focal")
    if key.lstrip("+").split(".")[0] == "hydra":
        raise ConfigError(
            f"expected a key of the job, got {text}: Hydra only composes the config here; a folder with options of your "
            f"own is named by --config-dir DIR"
        )
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        quote = '\\"' if '"' in value else '"'
        quoted = value.replace('"', quote)
        raise ConfigError(
            f"expected key=value in Hydra's grammar, got {text}; a text with special characters (= , ~ ( ) [ ] : or "
            f"quotes) is quoted twice, for the shell and for Hydra: '{key}=\"{quoted}\"'"
        ) from error
    if override.is_sweep_override():
        raise ConfigError(
            f"expected one value for {key}, got {value}: `train` trains one run a command; write a list as "
            f"{key}=[{value}] and a text with commas as '{key}=\"{value}\"'"
        )
    assert override.type is not OverrideType.DEL
    return override


def _group_choice(override: Override, folders: list[Path]) -> str:
    from hydra.core.override_parser.types import OverrideType

    group, value = override.key_or_group, override.value()
    options = option_names(group, folders)
    if value is None and (group in PRESETS or override.package is not None):
        return f"{group}=null"
    if not isinstance(value, str) or value not in options:
        got = "null" if value is None else value
        raise ConfigError(
            f"expected {group} to be one of {_nearest_first(str(got), options)}; got {group}={got}"
            + ("" if isinstance(value, str) or value is None else f" (single keys are given as {group}.KEY=VALUE)")
        )
    if override.package is None:
        return f"{group}={value}"  # `+experiment=NAME` is Hydra's older habit: the groups are all listed here
    sign = "+" if override.type is OverrideType.ADD else ""
    return f"{sign}{group}@{override.package}={value}"


def _nearest_first(name: str, options: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    return ", ".join([*near, *(option for option in options if option not in near)])


def _spell_out(override: Override, known: Mapping[str, Any]) -> str:
    """The override as Hydra must see it: with `++` where a node takes keys that it does not hold yet.

    Raises:
        ConfigError: the key is unknown.
    """
    key, text = override.key_or_group, override.input_line
    assert text is not None
    bare = text.lstrip("+")
    refuse_fixed_trainer_argument(key)
    node: Any = known
    parts = key.split(".")
    for depth, part in enumerate(parts):
        parent = ".".join(parts[:depth])
        if isinstance(node, list):
            raise ConfigError(
                f"expected the whole list, got {bare}: single elements cannot be overridden; write "
                f"{parent}=[{', '.join(map(str, node))}] with your values"
            )
        if isinstance(node, Mapping) and part in node:
            node = node[part]
            continue
        added = override.is_add() or override.is_force_add()
        if is_open(parent, part, node, added=added):
            return f"++{bare}"
        raise unknown_key(key, known, bare)
    return f"++{bare}" if isinstance(node, Mapping) else bare


@contextmanager
def _hydra(folders: list[Path]) -> Iterator[Any]:
    """A function from overrides to (config, choices), valid inside the context; Hydra's errors become ours."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    search_path = [f"hydra.searchpath={['file://' + str(folder) for folder in folders[1:]]}"] if folders[1:] else []

    def load(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str | None]]:
        with _translated(folders):
            config = hydra_compose("config", [*overrides, *search_path], return_hydra_config=True)
        choices = {str(key): value for key, value in config.hydra.runtime.choices.items()}
        OmegaConf.set_struct(config, False)
        del config["hydra"]
        return config, {key: value for key, value in choices.items() if not key.startswith("hydra/")}

    with warnings.catch_warnings(), initialize_config_dir(str(folders[0]), version_base=HYDRA_VERSION_BASE):
        warnings.simplefilter("ignore")
        yield load


@contextmanager
def _translated(folders: list[Path]) -> Iterator[None]:
    """Turns what is left of Hydra's errors (mostly mistakes in a user's own YAML) into a ConfigError."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        message = str(error)
        missing = _SEARCHED.search(message)
        if missing is not None and missing["group"] in group_names(folders):
            options = _nearest_first(missing["option"], option_names(missing["group"], folders))
            raise ConfigError(
                f"expected {missing['group']} to be one of {options}; got {missing['option']} in the defaults list of "
                f"an option that was chosen"
            ) from error
        first_lines = "; ".join(line.strip() for line in message.splitlines()[:4] if line.strip())
        raise ConfigError(f"expected configs that can be composed, Hydra says: {first_lines}") from error


def _bare(choices: Mapping[str, str | None]) -> list[str]:
    """Overrides that choose the same options without the presets."""
    listed = default_options(conf_dir())
    return [
        f"{group if group in listed or '@' in group else group}={'null' if option is None else option}"
        for group, option in choices.items()
        if group not in PRESETS and group in listed
    ]


def _plain(config: DictConfig, root: Path) -> dict[str, Any]:
    """Plain values, resolved where that is possible; `???` where a value must be given."""
    return _container(config, root, throw_on_missing=False)


def _resolve(config: DictConfig, root: Path, given: list[str]) -> dict[str, Any]:
    from omegaconf import OmegaConf

    missing = sorted(str(key) for key in OmegaConf.missing_keys(config))
    if missing:
        raise explain_missing(missing, given)
    return _container(config, root, throw_on_missing=True)


def _container(config: DictConfig, root: Path, *, throw_on_missing: bool) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if OmegaConf.is_missing(config.get("paths") or {}, "root") or not OmegaConf.select(config, "paths.root"):
        OmegaConf.update(config, "paths.root", str(root), force_add=True)
    try:
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=throw_on_missing)
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"expected interpolations such as ${{image_size}} that name keys of the config, got one in "
            f"{error.full_key or 'the config'} that does not: {str(error).splitlines()[0]}"
        ) from error
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}
