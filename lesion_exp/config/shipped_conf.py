"""Finds the shipped configs and lists their groups, options and documented keys.

Help texts and messages about a wrong name must appear at once, so this module imports neither Hydra nor a YAML parser.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

PRIVATE_OPTION: Final = "base"
"""Name of the file with the keys that the options of a group share; it is not an option itself."""
SWEEP_GROUPS: Final = ("launcher", "search")
"""Groups that configure a sweep; they are not part of any job."""
PRESET_GROUPS: Final = ("experiment", "debug")
"""Groups whose options set keys of all groups."""
PRESET: Final = "preset"
"""The schema of options of `PRESET_GROUPS`."""
CONFIG: Final = "config"
"""The schema of a `config.yaml`."""
_DEFAULT_LINE: Final = re.compile(r"^\s+-\s+(?P<group>[\w/]+):\s*(?P<option>[\w-]+)\s*(#\s*(?P<comment>.*))?$")
_KEY_LINE: Final = re.compile(r"^(?P<indent> *)(?P<key>\w+):\s*(?P<value>.*?)\s*(?:(?<!\S)#\s*(?P<comment>.*))?$")
_GLOBAL_PACKAGE: Final = "# @package _global_"
_REQUIRED: Final = "???"
_INHERITED: Final = re.compile(r"^\s*(?:defaults:\s*\[|-\s+)(?P<name>base)\b")


def conf_dir() -> Path:
    """Returns the shipped folder `conf`: inside the package in an installed wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside, beside = package / "conf", package.parent / "conf"
    found = inside if (inside / "config.yaml").is_file() else beside
    assert (found / "config.yaml").is_file(), f"the package was installed without its conf ({inside}, {beside})"
    return found


def find_root(start: Path) -> Path:
    """Returns the root of the project: the checkout at or above the folder `start`, else `start` itself."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / "conf" / "config.yaml").is_file() and (folder / "lesion_exp").is_dir():
            return folder
    return start


def group_names(folders: Iterable[Path]) -> list[str]:
    """Returns every config group of `folders`: `augmentation`, and the groups inside it such as `augmentation/mix`."""
    names = {
        Path(place).relative_to(folder).as_posix()
        for folder in folders
        for place, _, files in os.walk(folder)
        if any(name.endswith(".yaml") for name in files)
    }
    return sorted(names - {"."})


def document_names(folders: Iterable[Path]) -> list[str]:
    """Returns the names of the schemas: `preset`, `config` and each config group with dots instead of slashes."""
    groups = [group.replace("/", ".") for group in group_names(folders) if group not in PRESET_GROUPS]
    return [PRESET, CONFIG, *groups]


def option_names(group: str, folders: Iterable[Path]) -> list[str]:
    """Returns the options of `group`, as in `GROUP=OPTION`."""
    names = {path.stem for folder in folders for path in (folder / group).glob("*.yaml")}
    return sorted(names - {PRIVATE_OPTION})


def required_keys(group: str, option: str, folders: Iterable[Path]) -> list[str]:
    """Returns the keys without a default of an option of `group`; the last of `folders` that has the option counts."""
    files = [folder / group / f"{option}.yaml" for folder in folders]
    read = next(file for file in reversed(files) if file.is_file())
    return [key for key, (value, _) in _keys_of_file(read).items() if value == _REQUIRED]


def default_options(conf: Path) -> dict[str, str | None]:
    """Returns the groups in the defaults list of `conf/config.yaml`, in its order, each with its option or None."""
    matches = (_DEFAULT_LINE.match(line) for line in (conf / "config.yaml").read_text("utf-8").splitlines())
    return {
        match["group"]: None if match["option"] == "null" else match["option"] for match in matches if match is not None
    }


def documented_keys(conf: Path, chosen: Mapping[str, str] = MappingProxyType({})) -> dict[str, tuple[str, str]]:
    """Returns for each key of the default options its default, as the YAML spells it, and the comment beside it.

    `chosen` maps groups to options that are read instead of the default ones.
    """
    keys = _keys_of_file(conf / "config.yaml")
    for group, option in {**default_options(conf), **chosen}.items():
        if option is None:
            continue
        path = conf / group / f"{option}.yaml"
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        inherited = [match["name"] for match in map(_INHERITED.match, lines) if match is not None]
        for name in (*inherited, option):
            for key, described in _keys_of_file(conf / group / f"{name}.yaml").items():
                full_key = f"{group}.{key}"
                comment = described[1] or keys.get(full_key, ("", ""))[1]
                keys[full_key] = (described[0], comment)
    return keys


def shipped_targets(conf: Path) -> list[tuple[str, str, str]]:
    """Returns the targets that the YAMLs in `conf` name, as group, key below the group, and target.

    The key is empty for the target of the option itself; the group is empty for a preset, which sets keys of all
    groups.
    """
    found = []
    for path in sorted(conf.rglob("*.yaml")):
        group = path.parent.relative_to(conf).as_posix()
        with path.open(encoding="utf-8") as file:
            group = "" if group == "." or file.readline().startswith(_GLOBAL_PACKAGE) else group
        for key, (value, _) in _keys_of_file(path).items():
            parent, _, name = key.rpartition(".")
            if name == "_target_":
                found.append((group, parent, value))
    return found


def comments_of_file(path: Path) -> dict[str, str]:
    """Returns the comment beside each key of a YAML file; the parts of a key are joined by dots."""
    return {key: comment for key, _, comment in _lines_of_file(path) if comment}


def _keys_of_file(path: Path) -> dict[str, tuple[str, str]]:
    return {key: (value, comment) for key, value, comment in _lines_of_file(path) if value}


def _lines_of_file(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yields each key of a YAML file with its value, empty for a node, and the comment beside it."""
    parents: list[tuple[int, str]] = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
        match = _KEY_LINE.match(line)
        if match is None or match["key"] == "defaults":
            continue
        indent = len(match["indent"])
        parents = [parent for parent in parents if parent[0] < indent]
        yield ".".join([*(name for _, name in parents), match["key"]]), match["value"], match["comment"] or ""
        if not match["value"]:
            parents.append((indent, match["key"]))
