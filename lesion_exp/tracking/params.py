"""Converts nested configs to flat parameters, and names of metrics to names that MLflow accepts."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from lesion_exp.privacy import redacted
from lesion_exp.tracking import artifacts

log = logging.getLogger(__name__)

LONGEST_VALUE: Final = 6000
"""Largest number of characters of a parameter in MLflow."""
WHOLE_CONFIG: Final = artifacts.JOB
LONGEST_NAME: Final = 250
"""Largest number of characters of the name of a metric in MLflow."""
_ESCAPED: Final = re.compile(
    r"[^/\w.\- :]"  # characters that MLflow refuses everywhere
    r"|/(?=/|$)|^/"  # slashes with nothing between them, in which MLflow sees a path that is not normal
    r"|(?<![^/])\.\.?(?=/|$)|^\.(?=\.)"  # steps from folder to folder
    r"|_(?=x[0-9a-f]+_)"  # what would be read as an escape
)
_ESCAPE: Final = re.compile(r"_x((?:10|[0-9a-f])?[0-9a-f]{1,4})_")
_DIGEST_LENGTH: Final = 16


def flat_params(config: Mapping[str, Any]) -> dict[str, str]:
    """Flattens a config to texts by `group.key`: lists as JSON, `null`, `true` and `false` as in YAML.

    A mapping with keys that MLflow refuses becomes one JSON text. A value that is too long for MLflow is replaced by a
    reference to the config artifact, with a warning. Secrets and the home folder are removed.
    """
    flat: dict[str, str] = {}
    _flatten(redacted(dict(config)), "", flat)
    for name, value in flat.items():
        if len(value) > LONGEST_VALUE:
            flat[name] = f"{len(value)} characters (see {WHOLE_CONFIG})"
            log.warning(
                "%s has %d characters, but MLflow stores at most %d: the parameter refers to %s.",
                name,
                len(value),
                LONGEST_VALUE,
                WHOLE_CONFIG,
            )
    return flat


def allowed_name(name: str) -> str:
    """Converts `name` to a metric name that MLflow accepts; different names stay different, most stay unchanged.

    Each character that MLflow refuses is replaced by its Unicode number in hexadecimal digits, such as `_x28_`. A name
    that is too long is cut, and ends with a digest of the whole name.
    """
    escaped = _ESCAPED.sub(lambda found: "".join(f"_x{ord(character):x}_" for character in found[0]), name)
    if len(escaped) <= LONGEST_NAME:
        return escaped
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    return f"{escaped[: LONGEST_NAME - len(digest) - 1].rstrip('/')}_{digest}"


def given_name(name: str) -> str:
    """The inverse of `allowed_name`, except for names that were cut."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), name)


def _flatten(node: Mapping[str, Any], prefix: str, flat: dict[str, str]) -> None:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and all(allowed_name(str(inner)) == str(inner) for inner in value):
            _flatten(value, f"{name}.", flat)
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value, default=str)
