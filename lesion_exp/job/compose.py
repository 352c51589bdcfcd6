"""From overrides to a resolved config, and from Hydra's complaints to messages that say what to write instead."""

from __future__ import annotations

import copy
import functools
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lesion_exp.errors import ConfigError, nearest
from lesion_exp.job.check import TRAINER_ARGUMENTS, check_known_keys, check_values
from lesion_exp.job.shipped_conf import conf_dir, default_options, group_names, option_names

log = logging.getLogger(__name__)

PATH_KEYS: Final = ("dataset.root", "backbone.weights", "split.path", "paths.root")
"""Keys that may name a file or folder; relative ones are taken from the folder of the command."""
OPEN_NODES: Final = ("tags", "trainer", "search.space")
"""Nodes that take keys of the user's own: `tags` any, `trainer` the arguments of Lightning's Trainer."""


class OptionNames(Protocol):
    """What Hydra's grammar asks for the options of a group."""

    def get_group_options(self, group_name: str, results_filter: Any = None) -> list[str]:
        """The names of the options."""


Bases = dict[tuple[str, ...], DictConfig]
"""Composed configs by their choice of groups."""
_NO_PATH: Final = frozenset({"none", "imagenet"})


@dataclass(frozen=True)
class Composed:
    """A resolved config and what the user wrote to get it."""

    config: dict[str, Any]
    overrides: tuple[str, ...]
    launcher: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    """The nodes that say how a sweep goes; no job holds them."""


def compose(
    overrides: Sequence[str],
    *,
    config_dirs: Sequence[Path] = (),
    root: Path,
    bases: Bases | None = None,
    in_sweep: bool = False,
    conf: Path | None = None,
) -> Composed:
    """The config that `overrides` (Hydra's grammar) make of `conf/` and the user's own `config_dirs`.

    `bases` is a dictionary to keep between calls, so that configs of the same groups are composed from files once;
    `in_sweep` says that the config is for a cell of a sweep; `conf` is a copy of the shipped folder to be used instead.

    Raises:
        ConfigError: an override that is no override, a name that does not exist, a value of the wrong kind, or a key
            that still needs a value.
    """
    folders = config_folders(config_dirs, conf)
    parsed = parse_overrides(overrides)
    _refuse_sweeps(parsed)
    _warn_doubled(parsed)
    for override in parsed:
        _check_names(override, folders)
    base = _base(parsed, folders, root, {} if bases is None else bases)
    for override in parsed:
        _check_added(override, base)
    resolved = _resolve(_changed(base, parsed, folders), in_sweep)
    launcher, search = resolved.pop("launcher"), resolved.pop("search")
    reference = OmegaConf.to_container(base, resolve=False)
    assert isinstance(reference, dict), "the config is a mapping"
    check_known_keys(resolved, _shipped_nodes(folders[0]))
    check_values(resolved, {str(key): value for key, value in reference.items()})
    _absolute_paths(resolved)
    return Composed(resolved, tuple(overrides), launcher, search)


def config_folders(config_dirs: Sequence[Path], conf: Path | None = None) -> list[Path]:
    """The folders that a config is made of: the shipped one, or `conf` instead of it, then the user's own.

    Raises:
        ConfigError: one of `config_dirs` is no folder.
    """
    return [conf or conf_dir(), *(_config_dir(folder) for folder in config_dirs)]


def _config_dir(folder: Path) -> Path:
    if not folder.expanduser().is_dir():
        raise ConfigError(f"expected a folder of configs after --config-dir, but none is at {folder}")
    return folder.expanduser().resolve()


def parse_overrides(overrides: Sequence[str], options: OptionNames | None = None) -> list[Override]:
    """Overrides in Hydra's grammar; `options` answers `GROUP=glob(..)` in a sweep.

    Raises:
        ConfigError: a text that is none, with how to quote it.
    """
    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            raise ConfigError(f"expected an override KEY=VALUE or GROUP=OPTION, got {text!r}; for example seed=1")
    try:
        parsed: list[Override] = OverridesParser.create(options).parse_overrides(list(overrides))  # type: ignore[arg-type]
    except HydraException as error:
        raise ConfigError(
            f"expected overrides in Hydra's grammar, got {_unreadable(overrides)}; quote a value that holds blanks, "
            f"commas, brackets, parentheses, colons or backslashes, and once more for the shell: "
            f"'dataset.filter=\"age > 0\"'"
        ) from error
    return parsed


def _unreadable(overrides: Sequence[str]) -> str:
    """The first override that cannot be parsed by itself."""
    parser = OverridesParser.create()
    for text in overrides:
        try:
            parser.parse_overrides([text])
        except HydraException:
            return text
    return " ".join(overrides)


def _refuse_sweeps(parsed: Sequence[Override]) -> None:
    for override in parsed:
        if override.is_sweep_override():
            raise ConfigError(
                f"expected one value for {override.key_or_group}, got several ({override.input_line}); add -m to try "
                f"them all in a sweep, or write a list as {override.key_or_group}=[a,b]"
            )


def _warn_doubled(parsed: Sequence[Override]) -> None:
    """As everywhere in Hydra the last override of a key counts; scripts that append their own rely on it."""
    last: dict[str, Override] = {}
    for override in parsed:
        key = f"{override.key_or_group}@{override.package}"
        if key in last:
            log.warning("%s does not count: %s comes after it", last[key].input_line, override.input_line)
        last[key] = override


def _check_names(override: Override, folders: Sequence[Path]) -> None:
    """The group of `GROUP=OPTION`, and the option, against what the folders hold."""
    groups = group_names(folders)
    key, value = str(override.key_or_group), override.value()
    top = [*default_options(folders[0]), *_top_level(folders[0])]
    if key in groups:
        options = option_names(key, folders)
        if override.is_add() and key in top:
            raise ConfigError(f"expected {key}={value} without a plus: the config has the group {key} already")
        if (override.is_delete() or value is None) and key in top:
            raise ConfigError(
                f"expected one of the options of {key}, got {override.input_line}; leave it out for the default\n"
                f"options: {', '.join(options)}"
            )
        if isinstance(value, list):
            raise ConfigError(
                f"expected one option of {key}, got {override.input_line}; several data sets together are "
                f"dataset=combined dataset.sets={{NAME: DIR, NAME: DIR}}"
            )
        if isinstance(value, str) and value not in options:
            raise ConfigError(
                f"expected one of the options of {key}, got {key}={value}; {nearest(value, options)}\n"
                f"options: {', '.join(options)}"
            )
        return
    first = key.split(".")[0].split("/")[0]
    if first not in {*groups, *top}:
        raise ConfigError(f"expected a config group or key, got {key}; {nearest(first, {*groups, *top})}")


def _check_added(override: Override, base: DictConfig) -> None:
    """`+key=value` may add keys only where something reads them."""
    key = str(override.key_or_group)
    if not override.is_add() or "/" in key or override.package is not None:
        return
    parent = key.rpartition(".")[0]
    node = OmegaConf.select(base, parent) if parent else None
    allowed = key.startswith(OPEN_NODES) or (isinstance(node, DictConfig) and "_target_" in node)
    if not allowed and parent:
        allowed = any(
            isinstance(above, DictConfig) and "_target_" in above
            for above in (OmegaConf.select(base, parent.rsplit(".", n)[0]) for n in range(1, parent.count(".") + 1))
        )
    if not allowed:
        raise ConfigError(
            f"expected a key that something reads, got +{key}; {nearest(key, _keys(base))}; keys can be added below a "
            f"node with a _target_, below trainer and below tags"
        )


def _base(parsed: Sequence[Override], folders: Sequence[Path], root: Path, bases: Bases) -> DictConfig:
    """The config of the chosen groups, with no key changed."""
    groups = set(group_names(folders))
    texts = [text.input_line for text in parsed if str(text.key_or_group) in groups and text.input_line]
    key = (*texts, "", *map(str, folders), str(root))
    if key in bases:
        return bases[key]
    search = [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in folders[1:])}]"] if folders[1:] else []
    logging.getLogger("hydra").setLevel(logging.ERROR)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folders[0]), version_base="1.3", job_name="lesion_exp"):
            bases[key] = hydra_compose("config", [*search, f"paths.root={_quoted(root)}", *texts])
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(
            f"expected a config that can be composed, Hydra says: {str(error).strip().splitlines()[0]}"
        ) from error
    return bases[key]


def _changed(base: DictConfig, parsed: Sequence[Override], folders: Sequence[Path]) -> DictConfig:
    """A copy of `base` with the keys of `parsed` changed, as Hydra itself changes them after composing the groups."""
    groups = set(group_names(folders))
    texts = [text.input_line for text in parsed if str(text.key_or_group) not in groups and text.input_line]
    opened = OverridesParser.create().parse_overrides([f"++{text}" if _is_open(text) else text for text in texts])
    config = copy.deepcopy(base)
    try:
        ConfigLoaderImpl._apply_overrides_to_config(opened, config)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise _translated(error, base) from error
    OmegaConf.set_struct(config, False)
    return config


def _is_open(text: str) -> bool:
    """Whether an override sets a key that need not be in the YAML: a tag, an argument of Lightning's Trainer."""
    key = text.partition("=")[0]
    parent, _, name = key.partition(".")
    return parent == "tags" or key.startswith("search.space.") or (parent == "trainer" and name in TRAINER_ARGUMENTS)


def _translated(error: Exception, base: DictConfig) -> ConfigError:
    """Hydra's error as a message in the house's grammar, with the nearest right name."""
    text = " ".join(str(cause) for cause in _causes(error))
    missing = re.search(r"Could not override '([\w./@-]+)'", text)
    if missing:
        return ConfigError(f"expected a key of the config, got {missing[1]}; {_nearest_key(missing[1], base)}")
    merged = re.search(r"Error merging override ([\w.]+)=", text)
    default = OmegaConf.select(base, merged[1]) if merged else None
    if merged and isinstance(default, DictConfig):
        inner = ", ".join(f"{merged[1]}.{name!s}={value}" for name, value in default.items())
        return ConfigError(f"expected keys below {merged[1]}, got one value; for example {inner}")
    return ConfigError(f"expected a config that can be composed, Hydra says: {str(error).strip().splitlines()[0]}")


def _nearest_key(key: str, base: DictConfig) -> str:
    keys = _keys(base)
    parent, _, leaf = key.rpartition(".")
    inside = {k.rpartition(".")[2]: k for k in keys if k.rpartition(".")[0] == parent}
    hint = nearest(leaf, inside) if inside else nearest(key, keys)
    return re.sub(r"'(\w+)'", rf"'{parent}.\1'", hint) if inside and hint.startswith("did") and parent else hint


def _causes(error: BaseException | None) -> list[BaseException]:
    return [] if error is None else [error, *_causes(error.__cause__ or error.__context__)]


def _keys(config: DictConfig) -> list[str]:
    plain = OmegaConf.to_container(config, resolve=False)

    def walk(node: Any, prefix: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        here = [f"{prefix}{key}" for key in node if key != "_target_"]
        return here + [found for key, value in node.items() for found in walk(value, f"{prefix}{key}.")]

    return walk(plain, "")


def _resolve(config: DictConfig, in_sweep: bool) -> dict[str, Any]:
    missing = _missing(OmegaConf.to_container(config, resolve=False), "")
    if missing:
        examples = {"dataset.root": "DIR", "split.path": "FILE.csv", "dataset.sets": "{ham10000: DIR, ph2: DIR}"}
        wanted = ", ".join(f"{key}={examples.get(key, 'VALUE')}" for key in missing)
        raise ConfigError(f"expected a value for {', '.join(missing)}, got none; add {wanted} to the command")
    try:
        resolved = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        first = str(error).strip().splitlines()[0]
        raise ConfigError(f"expected a config whose references can be resolved: {first}") from error
    assert isinstance(resolved, dict), "the config is a mapping"
    resolved.pop("experiment", None)
    resolved.pop("debug", None)
    if resolved.get("test") == "auto":
        resolved["test"] = not in_sweep
    return {str(key): value for key, value in resolved.items()}


def _missing(node: Any, prefix: str) -> list[str]:
    """Keys that hold `???`; references to them are left alone, unlike in OmegaConf's own list."""
    if not isinstance(node, dict):
        return [prefix] if node == "???" else []
    return sorted(key for name, value in node.items() for key in _missing(value, f"{prefix}.{name}".lstrip(".")))


def _absolute_paths(config: dict[str, Any]) -> None:
    for key in PATH_KEYS:
        *parents, leaf = key.split(".")
        node: Any = config
        for parent in parents:
            node = node.get(parent, {})
        value = node.get(leaf)
        if value == "":  # a variable of the shell that is not set would else be the current folder
            raise ConfigError(f"expected a path after {key}=, got none; is the variable that you wrote there set?")
        if isinstance(value, str) and value not in _NO_PATH:
            node[leaf] = str(Path(value).expanduser().absolute())
    sets = config["dataset"].get("sets")
    if isinstance(sets, dict):
        for name, value in sets.items():
            if isinstance(value, str):
                sets[name] = str(Path(value).expanduser().absolute())
            elif isinstance(value, dict) and "root" in value:
                value["root"] = str(Path(value["root"]).expanduser().absolute())


@functools.cache
def _shipped_nodes(conf: Path) -> dict[str, Any]:
    """The nodes that no option of the user's own replaces, as they are shipped, and the names of all groups."""
    nodes = _load(conf / "config.yaml")
    nodes.pop("defaults")
    for name in ("paths", "tracking", "evaluation"):
        nodes[name] = _load(conf / name / "default.yaml")
    nodes["trainer"] = {**_load(conf / "trainer" / "base.yaml"), **dict.fromkeys(TRAINER_ARGUMENTS)}
    return {**dict.fromkeys(default_options(conf)), **nodes}


def _load(path: Path) -> dict[str, Any]:
    import yaml

    loaded: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return loaded


def _top_level(conf: Path) -> list[str]:
    text = (conf / "config.yaml").read_text("utf-8")
    return [match[1] for match in re.finditer(r"^(\w+):", text, re.MULTILINE) if match[1] != "defaults"]


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
