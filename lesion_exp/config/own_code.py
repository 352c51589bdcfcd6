"""The source files of the user's own packages from which a config takes options."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lesion_exp.config.registered import TARGET, is_within, nodes_with_targets, trusted_packages
from lesion_exp.tracking.environment import CODE_TAG


def code_digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns the SHA-256 (16 digits) of each Python file of the trusted packages that `config` uses, by its name.

    A name consists of the package and the path of the file in it: `my_package/losses.py`, or `my_package.py` for a
    single module. A package that is not installed has no files.
    """
    return {name: _digest(path.read_bytes()) for package in _used(config) for name, path in _files(package)}


def code_tags(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns for each trusted package that `config` uses a tag with the digest of its files."""
    found = {}
    for package in _used(config):
        lines = [f"{name} {_digest(path.read_bytes())}" for name, path in _files(package)]
        found[f"{CODE_TAG}{package}"] = _digest("\n".join(lines).encode())
    return found


def _used(config: Mapping[str, Any]) -> list[str]:
    targets = [str(node[TARGET]) for _, node, _ in nodes_with_targets(config)]
    return sorted(package for package in set(trusted_packages()) if any(is_within(name, [package]) for name in targets))


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


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
