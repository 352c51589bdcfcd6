"""The keys of every option of a config group, read from its YAML and those it builds on, with the comment of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from omegaconf import OmegaConf

from lesion_exp.config.shipped_conf import PRIVATE_OPTION, comments_of_file, option_names

SELF: Final = "_self_"
DEFAULTS: Final = "defaults"
_ENTRY: Final = re.compile(r"^(override )?(?P<root>/?)(?P<group>[\w/]+)(@(?P<place>[\w.]+))?$")


@dataclass(frozen=True)
class OptionTree:
    """The keys of an option.

    Args:
        values: the values, nested as in the YAML.
        comments: the comment of each key, with the key's parts joined by dots.
        summary: the comment at the beginning of the file, up to its first full stop or colon.
    """

    values: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    summary: str = ""

    def merged(self, other: OptionTree, place: str = "") -> OptionTree:
        """This tree with `other` below the key `place` and before its own keys of the same name."""
        values: Any = other.values
        for name in reversed(place.split(".") if place else []):
            values = {name: values}
        comments = {f"{place}.{key}".strip("."): text for key, text in other.comments.items()}
        return OptionTree(_merge(self.values, values), {**self.comments, **comments}, self.summary or other.summary)


def read_option(group: str, option: str, folders: Sequence[Path]) -> OptionTree:
    """The keys of an option of `group`, those that it inherits included; `base` is read like one.

    `folders` are searched from the last to the first one, as for a command.
    """
    path = option_file(group, option, folders)
    content = load_yaml(path)
    tree = OptionTree(summary=summary_of(path))
    inherited = content.pop(DEFAULTS, [])
    own = OptionTree(content, comments_of_file(path), tree.summary)
    for entry in [*inherited, *([] if SELF in inherited else [SELF])]:
        if entry == SELF:
            tree = tree.merged(own)
        elif isinstance(entry, str):
            tree = tree.merged(OptionTree(**{**vars(read_option(group, entry, folders)), "summary": ""}))
        else:
            [(key, value)] = entry.items()
            match = _ENTRY.match(str(key))
            if match is None or value is None:
                continue
            other = match["group"] if match["root"] else f"{group}/{match['group']}"
            place = match["place"] or other.removeprefix(f"{group}/").replace("/", ".")
            tree = tree.merged(OptionTree(**{**vars(read_option(other, str(value), folders)), "summary": ""}), place)
    return tree


def read_group(group: str, folders: Sequence[Path]) -> dict[str, OptionTree]:
    """The options of `group` with their keys."""
    return {option: read_option(group, option, folders) for option in option_names(group, folders)}


def shared_keys(group: str, folders: Sequence[Path]) -> OptionTree:
    """The keys of the private option `base` of `group`; none if it has no such file."""
    has_base = any((folder / group / f"{PRIVATE_OPTION}.yaml").is_file() for folder in folders)
    return read_option(group, PRIVATE_OPTION, folders) if has_base else OptionTree()


def option_file(group: str, option: str, folders: Sequence[Path]) -> Path:
    """The file of an option; the last of `folders` that has it counts."""
    found = [folder / group / f"{option}.yaml" for folder in folders]
    return next((path for path in reversed(found) if path.is_file()), found[0])


def load_yaml(path: Path) -> dict[str, Any]:
    """The content of a YAML file as OmegaConf reads it, references unresolved; empty if there is none."""
    loaded = OmegaConf.to_container(OmegaConf.create(path.read_text("utf-8") or "{}"), resolve=False)
    return {str(key): value for key, value in loaded.items()} if isinstance(loaded, Mapping) else {}


def summary_of(path: Path) -> str:
    """The sentence with which the comment at the beginning of a file begins."""
    lines = []
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith(("# @package", "# yaml-language-server")):
            lines.append(line.lstrip("# "))
    sentence, stop, _ = f"{' '.join(lines)} ".partition(". ")
    return f"{sentence.strip()}." if stop else sentence.strip()


def _merge(before: Any, after: Any) -> Any:
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return after
    return {key: _merge(before[key], after[key]) if key in before and key in after else
            (after[key] if key in after else before[key]) for key in {**before, **after}}  # fmt: skip
