"""Tells apart the ids of different data sets: two clinics may both have a patient 1."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from lesion_exp.image_ids import ID_ORIGIN

_OF_A_FOLDER: Final = ("csv", "folder")
"""Readers of any data: the ids of one folder belong together, those of different folders do not."""
_DRAWN: Final = "synthetic"
_COMBINED: Final = "combined"
_READERS: Final = "lesion_exp.dataset."
_DIGITS: Final = 8
"""Hexadecimal digits of the digest in an origin, from which nobody can recover a path."""


def with_id_origin(table: pd.DataFrame, dataset: Mapping[str, Any]) -> pd.DataFrame:
    """Returns `table` with the column `ID_ORIGIN`.

    It is the `source`, except for data of the user's own (`dataset=csv` and `folder`), whose origin is their folder;
    for generated images, whose origin is what they were drawn with; and for the sets of a combination, which may have
    any name.

    Args:
        table: a table or a manifest with `source`.
        dataset: the node `dataset` of the job to which it belongs.
    """
    target = str(dataset.get("_target_", ""))
    reader = target.removeprefix(_READERS).partition(".")[0] if target.startswith(_READERS) else ""
    if reader == _COMBINED:
        origins = {name: _of_set(name, given) for name, given in dict(dataset.get("sets") or {}).items()}
    else:
        origins = {reader: _origin(reader, dataset)}
    return table.assign(**{ID_ORIGIN: [origins.get(source, source) for source in table["source"]]})


def _of_set(name: str, given: str | Mapping[str, Any] | None) -> str:
    arguments = dict(given) if isinstance(given, Mapping) else {"root": given}
    return _origin(str(arguments.pop("set", name)), arguments)


def _origin(reader: str, arguments: Mapping[str, Any]) -> str:
    if reader in _OF_A_FOLDER:
        return f"{reader}-{_digest(str(Path(str(arguments.get('root'))).expanduser().resolve()))}"
    if reader == _DRAWN:
        from lesion_exp.dataset.synthetic import read_synthetic  # imports OpenCV, which other data need not wait for

        drawn = {
            name: arguments.get(name, parameter.default)
            for name, parameter in inspect.signature(read_synthetic).parameters.items()
            if name != "root"
        }
        return f"{reader}-{_digest(json.dumps(drawn, sort_keys=True, default=str))}"
    return reader


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
