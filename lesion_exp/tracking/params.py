"""A nested config as the flat parameters that MLflow keeps."""

from __future__ import annotations

import json
import logging
import posixpath
import re
from collections.abc import Mapping
from typing import Any, Final

_log = logging.getLogger(__name__)

LONGEST_VALUE: Final = 6000
"""Characters of a parameter that MLflow keeps."""
WHOLE_CONFIG: Final = "config/job.yaml"
_FORBIDDEN: Final = re.compile(r"[^/\w.\- :]")


def flat_params(config: Mapping[str, Any]) -> dict[str, str]:
    """The config as `group.key` -> text: JSON for lists, `null`, `true` and `false` as in YAML.

    A mapping with keys that MLflow refuses is one JSON text. A value longer than MLflow keeps becomes a hint at the
    config artifact, with a warning, instead of being cut.
    """
    flat: dict[str, str] = {}
    _flatten(config, "", flat)
    for name, value in flat.items():
        if len(value) > LONGEST_VALUE:
            flat[name] = f"{len(value)} characters (see {WHOLE_CONFIG})"
            _log.warning(
                "%s has %d characters, MLflow keeps %d: the parameter points at %s.",
                name,
                len(value),
                LONGEST_VALUE,
                WHOLE_CONFIG,
            )
    return flat


def allowed_name(name: str) -> str:
    """The name with what MLflow refuses in the name of a metric replaced by `_`; most names come back unchanged."""
    return posixpath.normpath(_FORBIDDEN.sub("_", name)).lstrip("./") or "_"


def _flatten(node: Mapping[str, Any], prefix: str, flat: dict[str, str]) -> None:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and all(allowed_name(str(inner)) == str(inner) for inner in value):
            _flatten(value, f"{name}.", flat)
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value, default=str)
