"""Checks that a config has every key that this version reads: jobs come from other versions, options from users."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from lesion_exp.config.shipped_conf import SWEEP_GROUPS, conf_dir, default_options
from lesion_exp.errors import ConfigError, first_cases

MAY_LACK: Final = frozenset({"dataset.pseudo_labels", "dataset.pseudo_weight", "trainer.activation_checkpointing"})
"""Keys that older jobs do not have, and without which this version does what the older one did."""
_READ_BY_TARGETS: Final = frozenset({"backbone"})
"""Groups whose shared keys are read where their network is built, which checks them."""


def check_complete(config: Mapping[str, Any]) -> None:
    """Checks that the config of a job has every key that this version reads.

    Raises:
        ConfigError: keys are missing, because the job was frozen by a version that did not know them.
    """
    missing = list(_missing(config))
    if missing:
        raise ConfigError(
            f"expected a job with every key that this version of lesion_exp reads, but it lacks {len(missing)}; run it "
            f"with the version that froze it (its run's tag git_commit), or make a new job:\n{first_cases(missing)}"
        )


def check_own_options(config: Mapping[str, Any], options: Mapping[str, str]) -> None:
    """Checks that the chosen `options` (by group) have the keys that every option of their group must have.

    Raises:
        ConfigError: an option of the user lacks keys.
    """
    for group, option in options.items():
        missing = [key.removeprefix(f"{group}.") for key in _missing(config) if key.startswith(f"{group}.")]
        if not missing:
            continue
        base = _base_file(group)
        inherited = [key for key in missing if base is not None and key in _read(base)]
        remedy = [f"begin it with defaults: [{base.stem}, _self_]"] if base is not None and inherited else []
        remedy += [f"give it {key}" for key in missing if key not in inherited]
        raise ConfigError(
            f"expected {group}/{option}.yaml to have the keys of every option of {group}, but it lacks "
            f"{', '.join(missing)}; {', and '.join(remedy)}"
        )


def _missing(config: Mapping[str, Any]) -> Iterator[str]:
    """Yields the keys that a job reads and `config` lacks."""
    for node, keys in _shared_keys().items():
        found = config.get(node) if node else config
        known = found if isinstance(found, Mapping) else {}
        missing = (f"{node}.{key}".lstrip(".") for key in keys if key not in known)
        yield from (key for key in missing if key not in MAY_LACK)


def _base_file(group: str) -> Path | None:
    """Returns the shipped file with the keys that all options of a group have."""
    files = (conf_dir() / group / f"{name}.yaml" for name in ("base", "default"))
    return next((path for path in files if path.is_file()), None)


@functools.cache
def _shared_keys() -> dict[str, tuple[str, ...]]:
    """Returns the required keys of each node; those of the top level are under the empty name."""
    conf = conf_dir()
    top = {key: value for key, value in _read(conf / "config.yaml").items() if key != "defaults"}
    options = default_options(conf).items()
    groups = [group for group, option in options if option is not None and group not in SWEEP_GROUPS]
    shared = {"": (*top, *groups), **{key: tuple(value) for key, value in top.items() if isinstance(value, dict)}}
    for group in set(groups) - _READ_BY_TARGETS:
        path = _base_file(group)
        if path is not None:
            shared[group] = tuple(key for key in _read(path) if key not in ("defaults", "_target_"))
    shared["dataset"] = ("name", *shared["dataset"])
    return shared


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content
