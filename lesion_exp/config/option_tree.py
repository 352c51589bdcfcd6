"""The keys of every option of a config group, read from its YAML and those it builds on, with the comment of each."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lesion_exp.config.shipped_conf import PRIVATE_OPTION, comments_of_file, group_names, option_names
from lesion_exp.errors import ConfigError, nearest

SELF: Final = "_self_"
DEFAULTS: Final = "defaults"
_HERE: Final = "_here_"
_ENTRY: Final = re.compile(r"^(override )?(?P<root>/?)(?P<group>[\w/]+)(@(?P<place>[\w.]+))?$")


@dataclass(frozen=True)
class OptionTree:
    """The keys of an option.

    Args:
        values: the values, nested as in the YAML.
        comments: the comment of each key, with the key's parts joined by dots.
        summary: the first sentence of the comment at the beginning of the file.
    """

    values: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    summary: str = ""

    def merged(self, other: OptionTree, place: str = "") -> OptionTree:
        """Returns this tree with the keys of `other` below the key `place`; they replace keys of the same name."""
        values: Any = other.values
        for name in reversed(place.split(".") if place else []):
            values = {name: values}
        comments = {f"{place}.{key}".strip("."): text for key, text in other.comments.items()}
        return OptionTree(_merge(self.values, values), {**self.comments, **comments}, self.summary or other.summary)


def read_option(group: str, option: str, folders: Sequence[Path]) -> OptionTree:
    """Returns the keys of an option of `group`, including those that it inherits; `base` is read like an option.

    `folders` are searched from the last to the first one, as for a command.

    Raises:
        ConfigError: a file cannot be parsed, or its list of defaults names an option that does not exist.
    """
    return _read(group, option, folders, ())


def _read(group: str, option: str, folders: Sequence[Path], within: tuple[tuple[str, str], ...]) -> OptionTree:
    """Returns `read_option` of an option on which the options in `within`, pairs of group and option, build."""
    path = option_file(group, option, folders)
    content = load_yaml(path)
    tree = OptionTree(summary=summary_of(path))
    inherited = content.pop(DEFAULTS, None) or []
    if not isinstance(inherited, list):
        raise ConfigError(f"expected a list below defaults in {path}, got {inherited!r}; write - {inherited}")
    own = OptionTree(content, comments_of_file(path), tree.summary)
    for entry in [*inherited, *([] if SELF in inherited else [SELF])]:
        if entry == SELF:
            tree = tree.merged(own)
            continue
        for other, name, place in _chosen(entry, group, path):
            _check_default(entry, other, name, path, folders, (*within, (group, option)))
            found = _read(other, name, folders, (*within, (group, option)))
            tree = tree.merged(OptionTree(found.values, found.comments), place)
    return tree


def _chosen(entry: object, group: str, path: Path) -> Iterator[tuple[str, str, str]]:
    """Yields the group, option and place of each option that an entry of a list of defaults names.

    The place is a key below those of `group`.

    Entries whose option is null, or is known only when a config is composed, name none.

    Raises:
        ConfigError: `entry` is not an entry of such a list.
    """
    if isinstance(entry, str):
        name, at, place = entry.partition("@")
        parent, slash, option = name.rpartition("/")
        entry = {f"{parent}{at}{place}" if slash else f"/{group}@{place or _HERE}": option}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise ConfigError(
            f"expected an option, or one group with its option, as each entry of defaults in {path}, got {entry!r}; "
            f"for example - base, or - /loss@aux: focal"
        )
    [(key, value)] = entry.items()
    match = _ENTRY.match(str(key))
    if match is None or value is None:
        return
    other = match["group"] if match["root"] else f"{group}/{match['group']}"
    place = match["place"] or other.removeprefix(f"{group}/").replace("/", ".")
    for option in value if isinstance(value, list) else [value]:
        if "${" not in str(option) and option != MISSING:
            yield other, str(option).removesuffix(".yaml"), "" if place == _HERE else place


def _check_default(
    entry: object, group: str, option: str, path: Path, folders: Sequence[Path], within: Collection[tuple[str, str]]
) -> None:
    """Checks that `entry` of the defaults in `path` names an option that exists and does not build on itself."""
    if (group, option) in within:
        raise ConfigError(
            f"expected options that do not build on this file below defaults in {path}, got {entry!r}; remove it"
        )
    if not option_file(group, option, folders).is_file():
        known = option_names(group, folders)
        hint = nearest(option, known) if known else nearest(group, group_names(folders))
        raise ConfigError(f"expected an option of {group} below defaults in {path}, got {entry!r}; {hint}")


def read_group(group: str, folders: Sequence[Path]) -> dict[str, OptionTree]:
    """Returns the options of `group` with their keys."""
    return {option: read_option(group, option, folders) for option in option_names(group, folders)}


def shared_keys(group: str, folders: Sequence[Path]) -> OptionTree:
    """Returns the keys of the private option `base` of `group`; none if there is no such file."""
    has_base = any((folder / group / f"{PRIVATE_OPTION}.yaml").is_file() for folder in folders)
    return read_option(group, PRIVATE_OPTION, folders) if has_base else OptionTree()


def option_file(group: str, option: str, folders: Sequence[Path]) -> Path:
    """Returns the file of an option in the last of `folders` that has it."""
    found = [folder / group / f"{option}.yaml" for folder in folders]
    return next((path for path in reversed(found) if path.is_file()), found[0])


def load_yaml(path: Path) -> dict[str, Any]:
    """Returns the content of a YAML file as OmegaConf reads it, without resolving references; empty without keys.

    Raises:
        ConfigError: the file cannot be parsed.
    """
    try:
        loaded = OmegaConf.to_container(OmegaConf.create(path.read_text("utf-8") or "{}"), resolve=False)
    except (yaml.YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise ConfigError(f"expected YAML in {path}, but it cannot be parsed: {error}; correct the file") from error
    return {str(key): value for key, value in loaded.items()} if isinstance(loaded, Mapping) else {}


def summary_of(path: Path) -> str:
    """Returns the first sentence of the comment at the beginning of a file."""
    lines = []
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith(("# @package", "# yaml-language-server")):
            lines.append(line.lstrip("# "))
    sentence = re.split(r"(?<!\bal)\.\s", f"{' '.join(lines)} ", maxsplit=1)  # "Lin et al. (2017)" ends none
    return f"{sentence[0].strip()}." if len(sentence) > 1 else sentence[0].strip()


def _merge(before: Any, after: Any) -> Any:
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return after
    return {key: _merge(before[key], after[key]) if key in before and key in after else
            (after[key] if key in after else before[key]) for key in {**before, **after}}  # fmt: skip
