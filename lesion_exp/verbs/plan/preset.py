"""Writes a plan as a preset: one YAML of the group `experiment`, with the reason beside each value."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from omegaconf import OmegaConf

from lesion_exp.verbs.plan.candidate import Choice

WIDTH: Final = 118
"""Characters of a line of the heading."""
_INDENT: Final = "  "


def preset_text(heading: Sequence[str], choices: Sequence[Choice]) -> str:
    """Returns the preset that makes `choices`, below the paragraphs of `heading` as comments."""
    lines = ["# @package _global_"]
    for paragraph in heading:
        indent = "    " if paragraph.startswith("  ") else "  "
        wrapped = textwrap.wrap(
            paragraph, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
            drop_whitespace=True, replace_whitespace=False,
        )  # fmt: skip
        lines += [f"# {line}" for line in wrapped]
    lines.append("defaults:")
    lines += [
        _line(f"  - override /{each.key}: {_scalar(each.value)}", each.reason) for each in choices if each.is_group
    ]
    lines += _nested(_tree([each for each in choices if not each.is_group]), "")
    return "\n".join(lines) + "\n"


def _tree(choices: Sequence[Choice]) -> dict[str, Any]:
    """The choices as nested dictionaries, by the parts of their keys."""
    tree: dict[str, Any] = {}
    for choice in choices:
        *parents, leaf = choice.key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = choice
    return tree


def _nested(tree: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Choice):
            yield _line(f"{indent}{key}: {_scalar(value.value)}", value.reason)
        else:
            yield f"{indent}{key}:"
            yield from _nested(value, indent + _INDENT)


def _scalar(value: Any) -> str:
    """A value in YAML's flow style, in which JSON is written; texts without special characters need no quotes."""
    if isinstance(value, str) and value.replace("_", "").replace(":", "").isalnum() and not _is_read_otherwise(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _is_read_otherwise(text: str) -> bool:
    """Whether Hydra reads `text` without quotes as another value, as it does numbers (`1e5`), `no` and `null`."""
    return bool(OmegaConf.to_container(OmegaConf.create(f"[{text}]")) != [text])


def _line(text: str, reason: str) -> str:
    return f"{text}  # {reason}" if reason else text
