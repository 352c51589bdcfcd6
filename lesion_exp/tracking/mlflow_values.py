"""Converts values to those that MLflow accepts: flat parameters, names of metrics, and one value of a metric per
step.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from lesion_exp.privacy import redacted
from lesion_exp.tracking import artifacts

if TYPE_CHECKING:
    from mlflow import MlflowClient

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


class MetricPoints:
    """Selects the metrics of a step that are logged, so that a metric has one value per step and its steps increase.

    `reached` maps each metric of a resumed run to its last step. Instances are thread-safe.
    """

    def __init__(self, reached: Mapping[str, int] | None = None) -> None:
        self._reached = dict(reached or {})
        self._reported: set[str] = set()
        self._mutex = threading.Lock()

    def new(self, values: Mapping[str, float], step: int) -> dict[str, float]:
        """Returns the metrics that have no value at this step or a later one, under names that MLflow accepts.

        A resumed run repeats the steps after its last checkpoint; the values of the first time are kept.
        """
        points = {}
        self._report(values)
        with self._mutex:
            for key, value in values.items():
                name = allowed_name(key)
                if step > self._reached.get(name, -1):
                    points[name] = float(value)
                    self._reached[name] = step
        return points

    def next_step(self, names: Iterable[str]) -> int:
        """Returns the first step at which, and after which, none of the metrics has a value."""
        with self._mutex:
            return 1 + max((self._reached.get(allowed_name(name), -1) for name in names), default=-1)

    def _report(self, names: Iterable[str]) -> None:
        """Warns once for each name that MLflow does not accept, such as that of a class, and says how it is written."""
        odd = {_from_first_odd_part(key) for key in names if allowed_name(key) != key}
        new = {name: allowed_name(name) for name in sorted(odd - self._reported)}
        if new:
            self._reported |= new.keys()
            written = ", ".join(f"{name!r} as {spelled!r}" for name, spelled in new.items())
            log.warning("MLflow does not accept some characters in the names of metrics, so it shows %s.", written)


def _from_first_odd_part(key: str) -> str:
    """Returns the name of a metric from the first part between slashes that MLflow refuses, such as a class `../x`.

    The result is the whole name if it is only too long.
    """
    parts = key.split("/")
    first = next((place for place, part in enumerate(parts) if allowed_name(part) != part), 0)
    return "/".join(parts[first:])


def last_steps(client: MlflowClient, run_id: str) -> dict[str, int]:
    """Returns the last step of each metric in the store."""
    return {name: max(known_steps(client, run_id, name)) for name in client.get_run(run_id).data.metrics}


def known_steps(client: MlflowClient, run_id: str, name: str) -> set[int]:
    """Returns the steps at which a metric of a run has a value in the store."""
    return {int(point.step) for point in client.get_metric_history(run_id, name)}


def flat_params(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns a config as texts by `group.key`: lists as JSON, `null`, `true` and `false` as in YAML.

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
    """Returns `name` as a metric name that MLflow accepts. Different names stay different, and most stay unchanged.

    Each character that MLflow refuses is replaced by its Unicode number in hexadecimal digits, such as `_x28_`. A name
    that is too long is cut, and ends with a digest of the whole name.
    """
    escaped = _ESCAPED.sub(lambda found: "".join(f"_x{ord(character):x}_" for character in found[0]), name)
    if len(escaped) <= LONGEST_NAME:
        return escaped
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    return f"{escaped[: LONGEST_NAME - len(digest) - 1].rstrip('/')}_{digest}"


def given_name(name: str) -> str:
    """Returns the inverse of `allowed_name`, except for names that were cut."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), name)


def _flatten(node: Mapping[str, Any], prefix: str, flat: dict[str, str]) -> None:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and all(allowed_name(str(inner)) == str(inner) for inner in value):
            _flatten(value, f"{name}.", flat)
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value, default=str)
