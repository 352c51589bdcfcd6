"""Tells apart the ids of different data sets: two clinics may both have a patient 1."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from lesion_exp.dataset.display_name import is_own
from lesion_exp.image_ids import ID_ORIGIN, OF_A_FOLDER
from lesion_exp.taxonomy import PSEUDO_SOURCE

_OF_ANY_DATA: Final = ("csv", "folder")
"""Readers of any data: the ids of one folder belong together, those of different folders do not."""
_OF_PSEUDO_LABELS: Final = f"{OF_A_FOLDER}{PSEUDO_SOURCE}"
_DRAWN: Final = "synthetic"
_COMBINED: Final = "combined"
_PACKAGE: Final = "lesion_exp."
_READERS: Final = f"{_PACKAGE}dataset."
_DIGITS: Final = 8
"""Hexadecimal digits of the digest in an origin, from which nobody can recover a path."""


def with_id_origin(table: pd.DataFrame, dataset: Mapping[str, Any]) -> pd.DataFrame:
    """Returns `table` with the column `ID_ORIGIN`.

    It is the `source`, except for data of the user's own (`dataset=csv`, `folder` and readers of the user's packages),
    whose origin is their folder; for images that only a file of pseudo-labels names; for generated images, whose origin
    is what they were drawn with; and for the sets of a combination, which may have any name. A reader of the user's
    that gives the `source` of a published set means the ids of that set.

    Args:
        table: a table or a manifest with `source`.
        dataset: the node `dataset` of the job to which it belongs.
    """
    target = str(dataset.get("_target_", ""))
    if _is_of_the_user(target):
        return table.assign(**{ID_ORIGIN: _of_own_reader(table["source"], dataset.get("root"))})
    reader = target.removeprefix(_READERS).partition(".")[0] if target.startswith(_READERS) else ""
    if reader == _COMBINED:
        origins = {name: _of_set(name, given) for name, given in dict(dataset.get("sets") or {}).items()}
    else:
        origins = {reader: _origin(reader, dataset)}
    origins[PSEUDO_SOURCE] = _OF_PSEUDO_LABELS
    return table.assign(**{ID_ORIGIN: [origins.get(source, source) for source in table["source"]]})


def has_ids_of_a_folder(dataset: Mapping[str, Any]) -> bool:
    """Returns whether the ids in data that the node `dataset` reads may be those of one folder alone."""
    target = str(dataset.get("_target_", ""))
    return is_own(dataset) or _is_of_the_user(target)


def _is_of_the_user(target: str) -> bool:
    return "." in target and not target.startswith(_PACKAGE)


def _of_own_reader(sources: pd.Series, root: object) -> list[str]:
    """The origin of the ids in a table of a reader of the user's, which read the folder `root`, if it has one."""
    from lesion_exp.dataset.combined import set_names  # imports every reader

    shared = {*set_names()} - {*_OF_ANY_DATA, _DRAWN}
    known = {PSEUDO_SOURCE: _OF_PSEUDO_LABELS, **{name: name for name in shared}}
    beginning = "" if root is None else f"{_of_folder(root)}-"
    return [known.get(source, f"{beginning}{source}") for source in sources]


def _of_set(name: str, given: str | Mapping[str, Any] | None) -> str:
    arguments = dict(given) if isinstance(given, Mapping) else {"root": given}
    return _origin(str(arguments.pop("set", name)), arguments)


def _origin(reader: str, arguments: Mapping[str, Any]) -> str:
    if reader in _OF_ANY_DATA:
        return _of_folder(arguments.get("root"))
    if reader == _DRAWN:
        from lesion_exp.dataset.synthetic import read_synthetic  # imports OpenCV, which other data need not wait for

        drawn = {
            name: arguments.get(name, parameter.default)
            for name, parameter in inspect.signature(read_synthetic).parameters.items()
            if name != "root"
        }
        return f"{reader}-{_digest(json.dumps(drawn, sort_keys=True, default=str))}"
    return reader


def _of_folder(root: object) -> str:
    return f"{OF_A_FOLDER}{_digest(str(Path(str(root)).expanduser().resolve()))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
