"""The methods of `conf/explanation`, by name."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from lesion_exp.config.instantiate import check_installed, instantiate, resolve_target
from lesion_exp.config.shipped_conf import option_names
from lesion_exp.errors import ConfigError, check_choice
from lesion_exp.explanation.explainer import Explainer

GROUP: Final = "explanation"


def method_names(folders: Sequence[Path]) -> list[str]:
    """The methods that `folders` (the shipped configs, then the user's own) describe."""
    return option_names(GROUP, folders)


def make_explainer(name: str, folders: Sequence[Path], settings: Mapping[str, Any] | None = None) -> Explainer:
    """The method `name`, with `settings` instead of the values in its YAML.

    Raises:
        ConfigError: an unknown name or setting, a value that it does not take, or a package that is not installed.
    """
    node = {**_node(name, folders), **(settings or {})}
    check_installed({GROUP: node})
    made = instantiate(node, GROUP)
    if not isinstance(made, Explainer):
        raise ConfigError(
            f"expected a subclass of lesion_exp.explanation.explainer.Explainer as target of {name}, got "
            f"{node['_target_']}"
        )
    return made


def about(name: str, folders: Sequence[Path]) -> str:
    """What the method does, in one sentence."""
    target = resolve_target(_node(name, folders)["_target_"], GROUP)
    text = sys.modules[target.__module__].__doc__ or target.__doc__ or ""
    return text.strip().partition("\n")[0]


def is_installed(name: str, folders: Sequence[Path]) -> bool:
    """Whether the package that the method needs, if any, is there."""
    target = resolve_target(_node(name, folders)["_target_"], GROUP)
    package = getattr(sys.modules[target.__module__], "PACKAGE", None)
    return package is None or importlib.util.find_spec(package) is not None


def _node(name: str, folders: Sequence[Path]) -> dict[str, Any]:
    files = [folder / GROUP / f"{name}.yaml" for folder in folders]
    found = [file for file in files if file.is_file()]
    check_choice("method", name, method_names(folders))
    node: dict[str, Any] = yaml.safe_load(found[-1].read_text("utf-8"))
    return node
