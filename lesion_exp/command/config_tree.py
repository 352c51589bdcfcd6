"""The config of a run as a tree, for the eyes."""

from __future__ import annotations

import sys
from collections.abc import Container, Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

HIDDEN: Final = ("paths", "print_config")


def show_config(config: Mapping[str, Any], overrides: Sequence[str], only: Container[str] | None = None) -> None:
    """Prints `config` on standard error: a line a group (those in `only`), what the user wrote in bold."""
    console = Console(file=sys.stderr, highlight=False)
    written = {override.lstrip("+~").partition("=")[0] for override in overrides}
    tree = Tree(Text("config", style="bold"), guide_style="dim")
    single = Text()
    for key, value in config.items():
        if not isinstance(value, Mapping):
            if key not in HIDDEN:
                _append(single, key, value, key in written)
        elif key not in HIDDEN and value and (only is None or key in only):
            branch = Text(f"{key:<13}", style="bold cyan" if key in written else "cyan")
            _leaves(branch, value, key, written)
            tree.add(branch)
    tree.children.insert(0, Tree(single))
    console.print(tree)


def _leaves(line: Text, node: Mapping[str, Any], prefix: str, written: set[str]) -> None:
    for key, value in node.items():
        path = f"{prefix}.{key}"
        if key == "_target_":
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


def _append(line: Text, key: str, value: Any, is_written: bool) -> None:
    shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    line.append(f"{key}=", style="bold" if is_written else "dim")
    line.append(f"{shown} ", style="bold yellow" if is_written else "")
