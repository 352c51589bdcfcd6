"""Composes overrides into a resolved config, and turns Hydra's errors into messages that say what to write instead."""

from __future__ import annotations

import copy
import functools
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from hydra import compose as hydra_compose
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from lesion_exp.backbone.hub import HUB
from lesion_exp.config.compatibility import check_own_options
from lesion_exp.config.data_folder import DataFolders, fill_data_root, searched
from lesion_exp.config.habits import better_hint
from lesion_exp.config.named_run import Runs, resolve_run_weights, resolve_teacher, with_run_ids
from lesion_exp.config.overrides import (
    TextParser,
    check_added,
    check_names,
    config_keys,
    is_open,
    literal,
    parse_overrides,
    quoted,
    refuse_sweeps,
    warn_doubled,
)
from lesion_exp.config.preprocessing import resolve_preprocessing
from lesion_exp.config.project import Project
from lesion_exp.config.registered import TARGET
from lesion_exp.config.schema import TRAINER_ARGUMENTS, check_known_keys, check_values
from lesion_exp.config.shipped_conf import conf_dir, default_options, group_names
from lesion_exp.config.watched import resolve_watched
from lesion_exp.errors import ConfigError, nearest

log = logging.getLogger(__name__)

PATH_KEYS: Final = ("dataset.root", "dataset.pseudo_labels", "backbone.weights", "split.path")
"""Keys that may name a file or folder, as those of the node `paths` do."""
_NO_PATH: Final = frozenset({"none", "imagenet"})
"""Values of these keys that are not paths."""


class Base(NamedTuple):
    """The config of the chosen groups, before single keys are overridden."""

    config: DictConfig
    replaced: tuple[str, ...]
    """Shipped config files that were replaced by files of the user."""
    options: dict[str, str]
    """The option of each group."""


Bases = dict[tuple[str, ...], Base]
"""Composed configs by their choice of groups."""
MOST_KEPT: Final = 32
"""Greatest number of composed configs that a process keeps."""
_KEPT: Final[dict[tuple[Any, ...], Base]] = {}
"""Composed configs by their choice of groups and the state of the files from which they were read."""
_RESOLVER: Final = re.compile(r"\$\{\s*[\w.]+\s*:")
"""A reference that is not a key of the config, such as `${oc.env:NAME}`."""


@dataclass(frozen=True)
class Composed:
    """A resolved config with the overrides that it was composed from."""

    config: dict[str, Any]
    overrides: tuple[str, ...]
    launcher: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    """The nodes that configure a sweep; they are not part of any job."""
    replaced: tuple[str, ...] = ()
    """Shipped config files that were replaced by files of the user, such as `loss/focal.yaml`."""
    options: Mapping[str, str] = field(default_factory=dict)
    """The option of each group, such as `loss: focal`; where its `_target_` was changed, the name of that target."""

    @property
    def project(self) -> Project:
        """The project whose folders and store the config names."""
        return Project.from_config(self.config)


def compose(
    overrides: Sequence[str],
    *,
    config_dirs: Sequence[Path] = (),
    root: Path,
    bases: Bases | None = None,
    runs: Runs | None = None,
    in_sweep: bool = False,
    conf: Path | None = None,
    folder: Path | None = None,
    data_folders: DataFolders | None = None,
) -> Composed:
    """Composes the config of `conf/` and the user's `config_dirs` with `overrides` and resolves it.

    Args:
        overrides: the overrides, in Hydra's grammar.
        config_dirs: folders of the user with further options.
        root: folder of the project.
        bases: a dictionary to pass to several calls, so that configs of the same groups are read from files once.
        runs: a dictionary to pass to several calls, so that a name such as `latest` means the same run in all of them.
        in_sweep: whether the config is for a cell of a sweep, which decides what `auto` means for `test` and
            `tracking.log_model`.
        conf: a copy of the shipped folder to use instead of it.
        folder: the folder at which relative paths start; by default the current one.
        data_folders: a dictionary to pass to several calls, so that the data of a set are read from the same folder in
            all of them.

    Raises:
        ConfigError: an override cannot be parsed, a name does not exist, a value has the wrong type, or a key still
            needs a value.
    """
    folders = config_folders(config_dirs, conf)
    parsed = parse_overrides(overrides)
    refuse_sweeps(parsed)
    warn_doubled(parsed)
    groups = group_names(folders)
    for override in parsed:
        check_names(override, folders, groups)
    base, replaced, options = _base(parsed, groups, folders, root, {} if bases is None else bases)
    for override in parsed:
        check_added(override, base)
    changed = _changed(base, parsed, groups)
    runs = {} if runs is None else runs
    start = Path() if folder is None else folder
    _absolute_folders(changed["paths"], start)
    resolve_run_weights(changed, runs)
    fill_data_root(changed, {} if data_folders is None else data_folders)
    resolved = _resolve(changed, in_sweep, start)
    launcher, search = resolved.pop("launcher"), resolved.pop("search")
    reference = OmegaConf.to_container(base, resolve=False)
    assert isinstance(reference, dict), "the config is a mapping"
    check_known_keys(resolved, _shipped_nodes(folders[0]))
    check_values(resolved, {str(key): value for key, value in reference.items()})
    _absolute_paths(resolved, start)
    resolve_teacher(resolved, runs)
    check_own_options(resolved, {group: option for group, option in options.items() if group in resolved})
    resolve_watched(resolved)
    return Composed(
        resolved,
        with_run_ids(overrides, resolved),
        launcher,
        search,
        replaced,
        _named(options, base, resolved),
    )


def config_folders(config_dirs: Sequence[Path], conf: Path | None = None) -> list[Path]:
    """Returns the folders that a config is composed from: the shipped one, or `conf` instead, then those of the user.

    A file in a folder of the user replaces the file of the same name in later folders and in the shipped one.

    Raises:
        ConfigError: one of `config_dirs` is not a folder.
    """
    return [conf or conf_dir(), *(_config_dir(folder) for folder in config_dirs)]


def _config_dir(folder: Path) -> Path:
    if not folder.expanduser().is_dir():
        raise ConfigError(
            f"expected a folder of configs after --config-dir, but there is no folder at {folder}; correct the path"
        )
    return folder.expanduser().resolve()


def _named(options: Mapping[str, str], base: DictConfig, resolved: Mapping[str, Any]) -> dict[str, str]:
    """Returns the `options` of the groups of a job; where the `_target_` was changed, the name of the new target."""
    named = {}
    for group, option in options.items():
        node, before = resolved.get(group), base.get(group)
        if isinstance(node, dict):
            target = node.get(TARGET)
            is_changed = isinstance(before, DictConfig) and target != before.get(TARGET)
            named[group] = str(target).rpartition(".")[2] if is_changed else option
    return named


def _base(parsed: Sequence[Override], groups: Sequence[str], folders: Sequence[Path], root: Path, bases: Bases) -> Base:
    texts = [text.input_line for text in parsed if str(text.key_or_group) in groups and text.input_line]
    key = (*texts, "", *map(str, folders), str(root))
    if key not in bases:
        bases[key] = _kept_base(texts, folders, root)
    return bases[key]


def _kept_base(texts: Sequence[str], folders: Sequence[Path], root: Path) -> Base:
    """Returns what `_read_base` returns, from memory if this process has composed the same options of the same files.

    Only bases of the shipped folder are kept. A resolver in a file, such as `${oc.env:NAME}`, may give another value
    at the next call, so that nothing is kept then.
    """
    if len(folders) > 1:
        return _read_base(texts, folders, root)
    files = _yaml_files(folders[0])
    key = (*texts, "", *((str(path), state.st_mtime_ns, state.st_size) for path, state in files.items()))
    kept = _KEPT.pop(key, None)
    if kept is None:
        kept = _read_base(texts, folders, root)
        if any(_RESOLVER.search(path.read_text("utf-8")) for path in files):
            return kept
    _KEPT[key] = kept
    if len(_KEPT) > MOST_KEPT:
        _KEPT.pop(next(iter(_KEPT)))  # the one that was used longest ago
    config = copy.deepcopy(kept.config)
    config["paths"]["root"] = literal(str(root))
    return kept._replace(config=config)


def _yaml_files(folder: Path) -> dict[Path, os.stat_result]:
    """Returns the YAML files in `folder` and below, each with its state on the disk."""
    paths = (Path(place, name) for place, _, names in os.walk(folder) for name in names if name.endswith(".yaml"))
    return {path: path.stat() for path in paths if path.is_file()}


def _read_base(texts: Sequence[str], folders: Sequence[Path], root: Path) -> Base:
    composed = [f"paths.root={quoted(literal(str(root)))}", *texts]
    logging.getLogger("hydra").setLevel(logging.ERROR)
    try:
        with _hydra(folders) as loader:
            base = hydra_compose("config", composed, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(
            f"expected a config that can be composed, but Hydra says: {str(error).strip().splitlines()[0]}; correct "
            f"the group or file that it names"
        ) from error
    choices = OmegaConf.to_container(base["hydra"]["runtime"]["choices"])
    assert isinstance(choices, dict), "choices are by group"
    chosen = {str(group): option for group, option in choices.items() if isinstance(option, str)}
    with open_dict(base):
        del base["hydra"]
    missing = [name for name, option in default_options(folders[0]).items() if option is not None and name not in base]
    missing += [name for name in _load(folders[0] / "config.yaml") if name != "defaults" and name not in base]
    if missing:
        raise ConfigError(
            f"expected every group and key of the shipped config.yaml in your own config.yaml, but it lacks "
            f"{', '.join(missing)}; begin with a copy of the shipped one ({folders[0] / 'config.yaml'})"
        )
    _restore_tags(base, loader.files, folders)
    return Base(base, _replaced(loader.files, folders), chosen)


class _Loader(ConfigLoaderImpl):
    """Hydra's loader, which keeps the names of the files of a config."""

    files: tuple[str, ...] = ()

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        self.files = tuple(dict.fromkeys(f"{found.config_path}.yaml" for found in defaults if found.config_path))
        return super()._compose_config_from_defaults_list(defaults, repo)


@contextmanager
def _hydra(folders: Sequence[Path]) -> Iterator[_Loader]:
    """Hydra, searching the user's folders before the shipped one.

    Hydra's public functions search them after it, or take them as overrides, which not every folder's name can be.
    """
    GlobalHydra.instance().clear()
    before = get_gh_backup()
    version.setbase("1.3")
    search = create_config_search_path(str(folders[0]))
    for folder in folders[1:]:
        search.prepend("own", f"file://{folder}", "main")
    try:
        loader = _Loader(config_search_path=search)
        GlobalHydra.instance().initialize(Hydra("lesion_exp", loader))
        yield loader
    finally:
        restore_gh_from_backup(before)


def _restore_tags(base: DictConfig, files: Sequence[str], folders: Sequence[Path]) -> None:
    """Restores the text of tags in YAML files that YAML reads as numbers."""
    import yaml

    for path in (next((folder / name for folder in _by_rank(folders) if (folder / name).is_file()), None)
                 for name in files):  # fmt: skip
        text = "" if path is None else path.read_text("utf-8")
        written = yaml.load(text, Loader=yaml.BaseLoader).get("tags") if "\ntags:" in f"\n{text}" else None
        for name, word in written.items() if isinstance(written, dict) else ():
            if isinstance(word, str) and isinstance(base["tags"].get(name), int | float):
                base["tags"][name] = word


def _by_rank(folders: Sequence[Path]) -> list[Path]:
    """Returns the folders in the order in which they are searched."""
    return [*folders[1:], folders[0]]


def _replaced(files: Sequence[str], folders: Sequence[Path]) -> tuple[str, ...]:
    """Returns those of `files` that are shipped, but were read from a folder of the user."""
    found = {}
    for name in files:
        holders = [folder for folder in _by_rank(folders) if (folder / name).is_file()]
        if holders[1:] and holders[-1] == folders[0]:
            found[name] = holders[0]
    for name, folder in found.items():
        _log_replaced(name, folder)
    return tuple(sorted(found))


@functools.cache
def _log_replaced(name: str, folder: Path) -> None:
    """Logs the replacement once in a process, because the cells of a sweep are composed one after another."""
    log.info("%s of %s is used instead of the shipped one", name, folder)


def _changed(base: DictConfig, parsed: Sequence[Override], groups: Sequence[str]) -> DictConfig:
    """Returns a copy of `base` with the keys of `parsed` set in the way in which Hydra sets them after composing the
    groups.
    """
    parser = TextParser.create()
    opened = [
        parser.parse_override(f"++{text}") if is_open(text, base) else override
        for override in parsed
        if str(override.key_or_group) not in groups and (text := override.input_line)
    ]
    config = copy.deepcopy(base)
    try:
        ConfigLoaderImpl._apply_overrides_to_config(opened, config)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise _translated(error, base) from error
    OmegaConf.set_struct(config, False)
    return config


def _translated(error: Exception, base: DictConfig) -> ConfigError:
    """Hydra's error as a `ConfigError` that names the nearest key, or an example."""
    text = " ".join(str(cause) for cause in _causes(error))
    missing = re.search(r"Could not override '([\w./@-]+)'", text)
    if missing:
        hint = better_hint(missing[1], "", _nearest_key(missing[1], base), conf_dir())
        return ConfigError(f"expected a key of the config, got {missing[1]}; {hint}")
    merged = re.search(r"Error merging override ([\w.]+)=", text)
    default = OmegaConf.select(base, merged[1]) if merged else None
    if merged and isinstance(default, DictConfig):
        inner = ", ".join(f"{merged[1]}.{name!s}={value}" for name, value in default.items())
        return ConfigError(f"expected keys below {merged[1]}, got one value; for example {inner}")
    reason = str(error).strip().splitlines()[0]
    return ConfigError(f"expected a config that can be composed, but Hydra says: {reason}; correct this override")


def _nearest_key(key: str, base: DictConfig) -> str:
    keys = config_keys(base)
    parent, _, leaf = key.rpartition(".")
    inside = {k.rpartition(".")[2]: k for k in keys if k.rpartition(".")[0] == parent}
    hint = nearest(leaf, inside) if inside else nearest(key, keys)
    return re.sub(r"'(\w+)'", rf"'{parent}.\1'", hint) if inside and hint.startswith("did") and parent else hint


def _causes(error: BaseException | None) -> list[BaseException]:
    return [] if error is None else [error, *_causes(error.__cause__ or error.__context__)]


def _resolve(config: DictConfig, in_sweep: bool, start: Path) -> dict[str, Any]:
    missing = _missing(OmegaConf.to_container(config, resolve=False), "")
    if missing:
        examples = {"dataset.root": "DIR", "split.path": "FILE.csv", "dataset.sets": "{ham10000: DIR, ph2: DIR}"}
        wanted = ", ".join(f"{key}={examples.get(key, 'VALUE')}" for key in missing)
        lookup = searched(OmegaConf.select(config, "dataset.name")) if "dataset.root" in missing else ""
        raise ConfigError(f"expected a value for {', '.join(missing)}, got none; add {wanted} to the command{lookup}")
    try:
        resolve_preprocessing(config, start)
        resolved = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        first = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"expected a config whose references can be resolved, but {first}; correct the reference"
        ) from error
    assert isinstance(resolved, dict), "the config is a mapping"
    resolved.pop("experiment", None)
    resolved.pop("debug", None)
    for node, key in ((resolved, "test"), (resolved["tracking"], "log_model")):
        if node.get(key) == "auto":
            node[key] = not in_sweep
    return {str(key): value for key, value in resolved.items()}


def _missing(node: Any, prefix: str) -> list[str]:
    """Keys that hold `???`; references to them are left alone, unlike in OmegaConf's own list."""
    if not isinstance(node, dict):
        return [prefix] if node == "???" else []
    return sorted(key for name, value in node.items() for key in _missing(value, f"{prefix}.{name}".lstrip(".")))


def _absolute_folders(paths: DictConfig, start: Path) -> None:
    """Makes the folders in the node `paths` absolute, before other keys refer to them."""
    written = OmegaConf.to_container(paths, resolve=False)
    assert isinstance(written, dict), "paths is a mapping"
    for name, value in written.items():
        if isinstance(value, str) and value and "${" not in value and value != "???":
            paths[name] = literal(_absolute(value, start))


def _absolute_paths(config: dict[str, Any], start: Path) -> None:
    for key in (*PATH_KEYS, *(f"paths.{name}" for name in config["paths"])):
        *parents, leaf = key.split(".")
        node: Any = config
        for parent in parents:
            node = node.get(parent, {})
        value = node.get(leaf)
        if value == "":  # an unset shell variable would otherwise mean the current folder
            raise ConfigError(
                f"expected a path after {key}=, got none; give a path, or set the shell variable that the command uses"
            )
        if isinstance(value, str) and value not in _NO_PATH and not value.startswith(("imagenet:", HUB)):
            node[leaf] = _absolute(value, start)
    sets = config["dataset"].get("sets")
    if isinstance(sets, dict):
        for name, value in sets.items():
            if isinstance(value, str):
                sets[name] = _absolute(value, start)
            elif isinstance(value, dict) and isinstance(value.get("root"), str):
                value["root"] = _absolute(value["root"], start)


def _absolute(path: str, start: Path) -> str:
    return str((start / Path(path).expanduser()).absolute())


@functools.cache
def _shipped_nodes(conf: Path) -> dict[str, Any]:
    """Returns the shipped nodes that no option of the user replaces, and the names of all groups."""
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
