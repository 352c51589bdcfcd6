"""The source files of the user's own packages from which a config takes options."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lesion_exp.config.registered import TARGET, is_within, nodes_with_targets, trusted_packages


def code_digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns the SHA-256 (16 digits) of each Python file of the trusted packages that `config` uses, by its name.

    A name consists of the package and the path of the file in it: `my_package/losses.py`, or `my_package.py` for a
        single
    module. A package that is not installed has no files.
    """
    targets = [str(node[TARGET]) for _, node, _ in nodes_with_targets(config)]
    used = sorted(package for package in set(trusted_packages()) if any(is_within(name, [package]) for name in targets))
    return {name: _digest(path) for package in used for name, path in _files(package)}


def _files(package: str) -> list[tuple[str, Path]]:
    try:
        spec = find_spec(package)
    except ImportError:
        return []
    place = package.replace(".", "/")
    if spec is None:
        return []
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if not folders:
        path = Path(spec.origin or "")
        return [(f"{place}{path.suffix}", path)] if path.is_file() else []
    return [
        (f"{place}/{path.relative_to(folder).as_posix()}", path)
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
    ]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
