"""Weights in several files, with the index that Hugging Face's libraries write beside them: `*.index.json`.

Nothing here imports torch: the digest of such weights is computed when a job is frozen.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from lesion_exp.errors import ConfigError

INDEX: Final = ".index.json"
"""The end of the name of an index."""


def shards_of(index: Path) -> list[Path]:
    """Returns the files of weights that an index names, each once, in alphabetical order; they lie beside the index.

    Raises:
        ConfigError: the file is not an index, or names files in other folders or a file that is missing.
    """
    try:
        named = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(name) for name in named.values()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"expected an index of files of weights, with a weight_map, at {index}, but it cannot be read: {error}; "
            f"fetch it again"
        ) from error
    elsewhere = [name for name in names if Path(name).name != name]
    if elsewhere or not names:
        raise ConfigError(
            f"expected files beside {index} in its weight_map, got {', '.join(elsewhere) or 'none'}; put the files "
            f"beside the index, and name them there without folders"
        )
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ConfigError(
            f"expected the {len(names)} files of weights that {index.name} names beside it, but {len(missing)} are not "
            f"there: {', '.join(missing[:4])}; fetch them to {index.parent}"
        )
    return [index.parent / name for name in names]
