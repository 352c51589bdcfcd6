"""The folder in which a machine keeps its data sets, which is searched if the command does not set `dataset.root`."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from omegaconf import DictConfig, OmegaConf

from lesion_exp.errors import ConfigError, nearest

log = logging.getLogger(__name__)

VARIABLE: Final = "LESION_EXP_DATA"
FOLDER_KEY: Final = "data"
SETS_KEY: Final = "datasets"
_WITHOUT_NAME: Final = frozenset({"folder", "csv", "combined"})
"""Options that read any data, so that a folder of their name need not contain the data that are meant."""
_EXAMPLE: Final = "data: /data/skin"
DataFolders = dict[str, str]
"""The folders of data sets that were found, by the names of the sets."""


def settings_file() -> Path:
    """Returns the file in which a user names the data folders of this machine."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "lesion_exp" / "config.yaml"


def fill_data_root(config: DictConfig, known: DataFolders) -> None:
    """Sets `dataset.root` of `config` to the folder of the data set on this machine, if it has no value yet.

    The folder has the name of the data set and lies in the folder that the environment variable `LESION_EXP_DATA`
    names. Otherwise it is the folder that the user's file names below `datasets`, or lies in the folder that this file
    calls `data`. The log names the folder. The key does not change if there is no such folder.

    A data set that is in `known` is not searched again; any other that is found is added.

    Raises:
        ConfigError: the variable names no folder, or the file cannot be read, names a relative folder, or names a
            folder that is not there.
    """
    node = OmegaConf.to_container(config["dataset"], resolve=False)
    name = node.get("name") if isinstance(node, dict) else None
    if not isinstance(node, dict) or node.get("root") != "???" or not _can_be_named(name):
        return
    name = str(name)
    if name not in known and (found := _of_variable(name) or _of_file(name)) is not None:
        folder, source = found
        known[name] = str(folder)
        _say(name, str(folder), source)
    if name in known:
        config["dataset"]["root"] = known[name]


def searched(name: object) -> str:
    """Returns the end of a message that `dataset.root` has no value: the places that were searched; empty if none."""
    if not _can_be_named(name):
        return ""
    variable, file = os.environ.get(VARIABLE), settings_file()
    places = [f"{VARIABLE}={variable} has no folder {name}"] if variable else []
    if file.is_file():
        places.append(f"{file} leads to no folder {name}")
    remedy = [] if variable else [f"or set {VARIABLE} to the folder that contains the folder {name}"]
    return "; " + "; ".join([*places, *remedy])


def _can_be_named(name: object) -> bool:
    return isinstance(name, str) and name not in _WITHOUT_NAME and Path(name).name == name


def _of_variable(name: str) -> tuple[Path, str] | None:
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    folder = Path(value).expanduser().absolute()
    if not folder.is_dir():
        raise ConfigError(
            f"expected a folder in the environment variable {VARIABLE}, but none is at {folder}; correct it, or give "
            f"dataset.root=DIR"
        )
    return (folder / name, f"{VARIABLE}={value}") if (folder / name).is_dir() else None


def _of_file(name: str) -> tuple[Path, str] | None:
    path = settings_file()
    if not path.is_file():
        return None
    settings = _read(path)
    named = settings.get(SETS_KEY) or {}
    if name in named:
        folder = _folder_in(path, f"{SETS_KEY}.{name}", named[name])
        _check_folder(folder, f"the folder of {name}", path)
        return folder, f"{SETS_KEY}.{name} in {path}"
    if settings.get(FOLDER_KEY) is None:
        return None
    above = _folder_in(path, FOLDER_KEY, settings[FOLDER_KEY])
    _check_folder(above, "the folder of the data sets", path)
    return (above / name, f"{FOLDER_KEY} in {path}") if (above / name).is_dir() else None


def _folder_in(path: Path, key: str, value: object) -> Path:
    """Returns the folder that a key of the user's file names, which must not depend on the current folder."""
    folder = Path(str(value)).expanduser()
    if not folder.is_absolute():
        raise ConfigError(
            f"expected an absolute path, or one that begins with ~, in {key} of {path}, got {value}, which would be "
            f"another folder in each project; for example {key}: {Path('/data') / folder.name}"
        )
    return folder


def _check_folder(folder: Path, what: str, path: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(
            f"expected {what} at {folder}, which {path} names, but there is none; correct the file, or give "
            f"dataset.root=DIR"
        )


def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"expected YAML in {path}, but it cannot be read: {error}; correct the file") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"expected keys in {path}, such as {_EXAMPLE}, got {content!r}")
    for key in content:
        if key not in (FOLDER_KEY, SETS_KEY):
            hint = nearest(str(key), [FOLDER_KEY, SETS_KEY])
            raise ConfigError(f"expected {FOLDER_KEY} and {SETS_KEY} in {path}, got {key}; {hint}")
    if not isinstance(content.get(SETS_KEY) or {}, dict):
        raise ConfigError(
            f"expected folders by name in {path}, such as {SETS_KEY}: {{ph2: /data/PH2}}, got {content[SETS_KEY]!r}"
        )
    return content


@functools.cache
def _say(name: str, folder: str, source: str) -> None:
    """Logs the folder once in a process, because the cells of a sweep are composed one after another."""
    log.info("the data of %s are read from %s (%s)", name, folder, source)
