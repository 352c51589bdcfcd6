"""The words of a command that say where a run is and whose code it uses.

A message or a page that names a command for a run has to name them too, or the command looks for the run in another
store, or refuses the user's own options.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from lesion_exp.config.registered import TARGET, nodes_with_targets, registered_options
from lesion_exp.config.shipped_conf import conf_dir, group_names, option_names
from lesion_exp.next_command import key_of
from lesion_exp.privacy import without_secrets

STORE_KEYS: Final = ("tracking.uri", "paths.root")
"""The keys that say in which store a run is."""
_PLACES: Final[Mapping[str, str]] = {
    "dataset.root": "DIR",
    "dataset.pseudo_labels": "FILE",
    "paths.root": "ROOT",
    "paths": "DIR",
    "tracking.uri": "URI",
}
"""Keys, and a node of keys, whose values are locations on a machine -> what a page shows in place of the value."""
_OWN: Final = "lesion_exp"


def store_words(overrides: Iterable[str]) -> list[str]:
    """Returns those of `overrides` that say in which store a run is."""
    return [text for text in overrides if key_of(text) in STORE_KEYS]


def place_words(overrides: Iterable[str], config: Mapping[str, Any]) -> list[str]:
    """Returns the keys in `overrides` that name the store or folders of the project, with their values in `config`.

    A run that was moved is in another place than its overrides say. `config` has the nodes `tracking` and `paths`.
    """
    values = {"tracking.uri": config["tracking"]["uri"]}
    values |= {f"paths.{name}": folder for name, folder in config["paths"].items()}
    named = {key_of(text) for text in overrides}
    return [without_secrets(f"{key}={value}") for key, value in values.items() if key in named and value]


def without_place(override: str) -> str:
    """Returns `override` with DIR, FILE, ROOT or URI in place of a location on a machine."""
    key = key_of(override)
    shown = next((word for place, word in _PLACES.items() if key.startswith(place)), None)
    return override if shown is None else f"{key}={shown}"


def config_dir_words(overrides: Iterable[str], replaced: Iterable[str] = ()) -> list[str]:
    """Returns `--config-dir DIR` if a command with `overrides` needs options of the user's own, else no words.

    Args:
        overrides: the overrides of the command.
        replaced: the shipped config files that were replaced by files of the user.
    """
    conf = conf_dir()
    groups = set(group_names([conf]))
    names_own = any(_names_own_option(text, conf, groups) for text in overrides)
    return ["--config-dir", "DIR"] if names_own or any(True for _ in replaced) else []


def trust_words(config: Mapping[str, Any]) -> list[str]:
    """Returns `--trust PACKAGE` for each package that is not this software's and whose code `config` names."""
    registered = {target for targets in registered_options().values() for target in targets}
    targets = [str(node[TARGET]) for _, node, _ in nodes_with_targets(config)]
    packages = {target.partition(".")[0] for target in targets if target not in registered} - {_OWN}
    return [word for package in sorted(packages) for word in ("--trust", package)]


def _names_own_option(override: str, conf: Path, groups: Iterable[str]) -> bool:
    """Whether `override` chooses an option of a group, or one of several for a sweep, that is not shipped."""
    group, value = key_of(override).partition("@")[0], override.partition("=")[2].strip("'\"")
    if group not in groups or not value or value == "null" or "(" in value:
        return False
    known = option_names(group, [conf])
    return any(option.strip() not in known for option in value.strip("[]").split(","))
