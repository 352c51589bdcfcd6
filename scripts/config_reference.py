"""Makes the reference of the config from the YAML files in conf/ and their comments: a page for each group."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lesion_exp.config.shipped_conf import (
    PRESET_GROUPS,
    PRIVATE_OPTION,
    conf_dir,
    default_options,
    group_names,
    option_names,
)
from lesion_exp.config.shipped_conf import _keys_of_file as keys_of_file

FOLDER: Final = "reference/config"
NOTE: Final = "<!-- Written by `make reference` from conf/; do not edit this page. -->"
_MORE_ABOUT: Final = {
    "augmentation/mix": "whether and how the images of a batch are mixed",
    "augmentation/transform": "a transform that a command or a recipe adds to the augmentation",
    "explanation": "settings of the methods of `lesion-exp explain`, typed as METHOD.KEY=VALUE",
    "paths": "the folders that commands write to",
}
"""What the groups choose that have no comment in conf/config.yaml."""
_HOW_SET: Final = {
    "explanation": "`method=METHOD` of `lesion-exp explain` chooses one or more; `METHOD.KEY=VALUE` sets a key.",
    "augmentation/transform": "The first line of each option shows how to add it. Its keys are set at that place.",
}
"""How options are chosen and keys are typed in the groups where `GROUP=OPTION` and `GROUP.KEY=VALUE` do not apply."""
_PLACE: Final = re.compile(r"^#.*\+[\w/]+@([\w.]+)=\w+", re.MULTILINE)
"""The place in the config of an option that has none by its group."""
_GROUP_COMMENT: Final = re.compile(r"^\s+-\s+([\w/]+):\s*[\w-]+\s*#\s*(.*)$")


def pages() -> dict[str, str]:
    """The pages by their paths below docs/."""
    conf = conf_dir()
    groups = group_names([conf])
    found = {f"{FOLDER}/index.md": _index(conf, groups)}
    return found | {f"{FOLDER}/{_file(group)}": _group(conf, group) for group in groups}


def table(keys: Mapping[str, tuple[str, str]], prefix: str = "") -> list[str]:
    """A table of keys with their defaults and comments; empty without keys."""
    rows = [
        f"| `{prefix}{key}` | {_code(value)} | {cell(comment)} |"
        for key, (value, comment) in keys.items()
        if not key.rpartition(".")[2].startswith("_")
    ]
    return ["| key | default | meaning |", "|---|---|---|", *rows, ""] if rows else []


def cell(text: str) -> str:
    """A text as it stands in a cell of a table."""
    return re.sub(r"<(?!=)|[|*]", lambda match: f"\\{match[0]}", text)


def _index(conf: Path, groups: list[str]) -> str:
    defaults = default_options(conf)
    about = dict(
        match.groups()
        for match in map(_GROUP_COMMENT.match, (conf / "config.yaml").read_text("utf-8").splitlines())
        if match
    )
    lines = [
        "# Config", "", NOTE, "",
        "`GROUP=OPTION` chooses an option of a group, `GROUP.KEY=VALUE` sets a key. Each group has a page",
        "with its options and keys, as they are typed.", "",
        "| group | what it chooses | default |", "|---|---|---|",
    ]  # fmt: skip
    about |= _MORE_ABOUT
    lines += [
        f"| [`{group}`]({_file(group)}) | {cell(about[group])} | {_code(defaults.get(group) or '')} |"
        for group in groups
    ]
    return "\n".join([*lines, "", "## Keys without a group", "", *table(keys_of_file(conf / "config.yaml"))])


def _group(conf: Path, group: str) -> str:
    lines = [f"# {group}", "", NOTE, ""]
    default = default_options(conf).get(group)
    if default:
        lines += [f"The default is `{group}={default}`.", ""]
    if group in _HOW_SET:
        lines += [_HOW_SET[group], ""]
    shared = conf / group / f"{PRIVATE_OPTION}.yaml"
    if shared.is_file():
        lines += ["## Keys of every option", "", *_heading(shared), *table(keys_of_file(shared), f"{group}.")]
    for option in option_names(group, [conf]):
        path = conf / group / f"{option}.yaml"
        lines += [f"## {option}", "", *_heading(path)]
        lines += _whole(path) if group in PRESET_GROUPS else _option(path, group)
    return "\n".join(lines)


def _option(path: Path, group: str) -> list[str]:
    keys = keys_of_file(path)
    target = keys.get("_target_", ("", ""))[0]
    made = [f"Made by `{target}`.", ""] if target else []
    return [*made, *table(keys, _prefix(path, group))]


def _prefix(path: Path, group: str) -> str:
    """What stands before the keys of an option where they are typed."""
    text = path.read_text("utf-8")
    if text.startswith("# @package _global_"):
        return ""
    if group == "explanation":
        return f"{path.stem}."
    place = _PLACE.search(text) if group == "augmentation/transform" else None
    return f"{place[1] if place else group.replace('/', '.')}."


def _whole(path: Path) -> list[str]:
    body = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    return ["```yaml", *body, "```", ""]


def _heading(path: Path) -> list[str]:
    """The comment at the head of a file as text; its commands as a block."""
    comment = []
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            comment.append(line[1:].removeprefix(" "))
    lines: list[str] = []
    for line in comment:
        is_command = line.startswith("  ")
        if is_command and lines[-1:] != ["```"]:
            lines += ["", "```bash" if "..." not in line else "```text"]
        elif is_command:
            lines.pop()
        lines += [line.strip(), "```"] if is_command else [*([""] if lines[-1:] == ["```"] else []), _text(line)]
    return [*lines, ""] if lines else []


def _text(line: str) -> str:
    return re.sub(r"<(?!=)", r"\<", line)


def _code(value: str) -> str:
    return f"`{value.replace('|', chr(92) + '|')}`" if value else ""


def _file(group: str) -> str:
    return f"{group.replace('/', '_')}.md"
