"""The name of a data set where it is shown beside others, so that no two of them look the same."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_WHAT_IT_IS: Final[Mapping[str, tuple[str, ...]]] = {
    "folder": ("root",), "csv": ("root", "table"), "combined": ("sets",),
}  # fmt: skip
"""Names that say how a data set is read and not which one it is, and the keys that say that."""
_DIGITS: Final = 4


def display_name(dataset: Mapping[str, Any]) -> str:
    """The name of the data set that a job's node `dataset` describes.

    It is `dataset.name`, unless that is only the name of a layout: for `dataset=folder dataset.root=/data/clinic` it is
    `clinic-3f2a`, for `dataset=combined` it is `combined-3f2a`. The four digits tell two folders of one name apart;
    they are a digest of what the keys say, and nobody can read a path from them.
    """
    name = str(dataset["name"])
    if name not in _WHAT_IT_IS:
        return name
    given = {key: dataset.get(key) for key in _WHAT_IT_IS[name]}
    if "root" in given:
        path = Path(str(given["root"])).expanduser().absolute()
        given["root"] = str(path)
        name = re.sub(r"[^\w.-]+", "_", path.stem).strip("._") or name
    text = json.dumps(given, sort_keys=True, default=str)
    return f"{name}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:_DIGITS]}"
