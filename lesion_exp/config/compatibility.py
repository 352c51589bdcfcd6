"""Whether a frozen job holds what this version reads: a job may come from an older or newer one."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from lesion_exp.config.shipped_conf import SWEEP_GROUPS, conf_dir, default_options
from lesion_exp.errors import ConfigError, first_cases

_READ_BY_TARGETS: Final = frozenset({"backbone"})
"""Groups whose shared keys are arguments of their targets, which check them."""


def check_complete(config: Mapping[str, Any]) -> None:
    """Checks that `config` has every key of the top level, and those that a job reads in the nodes of its groups.

    Raises:
        ConfigError: keys are missing; the job was frozen by a version that did not know them.
    """
    missing = []
    for node, keys in _shared_keys().items():
        found = config.get(node) if node else config
        known = found if isinstance(found, Mapping) else {}
        missing += [f"{node}.{key}".lstrip(".") for key in keys if key not in known]
    if missing:
        raise ConfigError(
            f"expected a job with every key that this version of lesion_exp reads, but it lacks {len(missing)}; run it "
            f"with the version that froze it (its run's tag git_commit), or make a new job:\n{first_cases(missing)}"
        )


@functools.cache
def _shared_keys() -> dict[str, tuple[str, ...]]:
    """The keys of each node, and of the top level as the node of no name."""
    conf = conf_dir()
    top = {key: value for key, value in _read(conf / "config.yaml").items() if key != "defaults"}
    options = default_options(conf).items()
    groups = [group for group, option in options if option is not None and group not in SWEEP_GROUPS]
    shared = {"": (*top, *groups), **{key: tuple(value) for key, value in top.items() if isinstance(value, dict)}}
    for group in set(groups) - _READ_BY_TARGETS:
        for name in ("base", "default"):
            path = conf / group / f"{name}.yaml"
            if path.is_file():
                shared[group] = tuple(key for key in _read(path) if key not in ("defaults", "_target_"))
                break
    return shared


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content
