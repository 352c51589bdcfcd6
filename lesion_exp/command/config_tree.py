"""Shows the config of a run as a tree: all of it, or what differs from the defaults."""

from __future__ import annotations

import sys
from collections.abc import Container, Mapping, Sequence
from typing import Any, Final

from rich.text import Text
from rich.tree import Tree

from lesion_exp.next_command import key_of
from lesion_exp.terminal import console

HIDDEN: Final = ("paths", "print_config")
_TARGET: Final = "_target_"
_LEFT_OUT: Final = object()
"""The value of a key that the defaults have and the config has not."""


def show_config(
    config: Mapping[str, Any],
    overrides: Sequence[str],
    only: Container[str] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Prints `config` on standard error: a line for each group (in `only`), the keys in `overrides` in bold.

    With `defaults`, the config without overrides, only what differs from it is shown.
    """
    written = {key_of(override) for override in overrides}
    if defaults is None:
        shown, title = dict(config), "config"
    else:
        shown, title = differences(config, defaults), "config, where it differs from the defaults"
    tree = Tree(Text(title, style="bold"), guide_style="dim")
    single = Text()
    for key, value in shown.items():
        if not isinstance(value, Mapping):
            if key not in HIDDEN and value is not _LEFT_OUT:
                _append(single, key, value, key in written)
        elif key not in HIDDEN and value and (only is None or key in only):
            branch = Text(f"{key:<13}", style="bold cyan" if key in written else "cyan")
            _leaves(branch, value, key, written)
            tree.add(branch)
    _append_missing(single, shown)
    if single:
        tree.children.insert(0, Tree(single))
    if defaults is not None:
        rest = "everything else is as in conf/" if tree.children else "it is as in conf/"
        tree.add(Text(f"{rest}; --full-tree shows all of it", "dim"))
    console(sys.stderr).print(tree)


def differences(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of `config`, nested likewise, whose values differ from those of `defaults`.

    In a node with the same `_target_`, keys that only `defaults` has are included with the value `_LEFT_OUT`.
    """
    found: dict[str, Any] = {}
    for key, value in config.items():
        default = defaults.get(key, _LEFT_OUT)
        if isinstance(value, Mapping):
            inner = differences(value, default if isinstance(default, Mapping) else {})
            if inner or not isinstance(default, Mapping):
                found[key] = inner
        elif value != default and not (value is None and default is _LEFT_OUT):
            found[key] = value
    if config.get(_TARGET) == defaults.get(_TARGET):
        found |= {key: _LEFT_OUT for key in defaults if key not in config}
    return found


def _leaves(line: Text, node: Mapping[str, Any], prefix: str, written: set[str]) -> None:
    for key, value in node.items():
        path = f"{prefix}.{key}"
        if value is _LEFT_OUT:
            continue
        if key == _TARGET:
            line.append(f"{str(value).rpartition('.')[2]} ", style="green")
        elif isinstance(value, Mapping):
            inner = Text()
            _leaves(inner, value, path, written)
            if not inner:
                continue
            inner.right_crop(1)
            line.append(f"{key}(", style="dim")
            line.append_text(inner)
            line.append(") ", style="dim")
        elif value is not None or path in written:
            _append(line, key, value, path in written)
    _append_missing(line, node)


def _append_missing(line: Text, node: Mapping[str, Any]) -> None:
    missing = [key for key, value in node.items() if value is _LEFT_OUT]
    if missing:
        line.append(f"without {', '.join(missing)} ", style="bold yellow")


def _append(line: Text, key: str, value: Any, is_written: bool) -> None:
    shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    line.append(f"{key}=", style="bold" if is_written else "dim")
    line.append(f"{shown} ", style="bold yellow" if is_written else "")
