"""The source files of the user's own packages from which a config takes options."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lesion_exp.config.registered import TARGET, is_within, nodes_with_targets, trusted_packages
from lesion_exp.tracking.environment import CODE_TAG, version_differences

if TYPE_CHECKING:
    from lesion_exp.tracking.stored_run import Run

log = logging.getLogger(__name__)

AND: Final = " and "
"""Between the digests of the states of code with which a run was trained, if its code was changed before it went on."""


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


def joined_states(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Returns `STATE and STATE` for each digest in `then` that differs `now`, when a training goes on with other code.

    Such a text is no digest of any code, so that nothing is taken for a result of one state alone.
    """
    both = [name for name in now if name in then and then[name].rpartition(AND)[2] != now[name]]
    return {name: f"{then[name]}{AND}{now[name]}" for name in both}


def states_so_far(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Returns all states of code of a training that goes on, for the names in `now` that it has in `then`.

    A name whose last digest is that of `now` keeps its text; for the others see `joined_states`.
    """
    return {name: then[name] for name in now if name in then} | joined_states(then, now)


def warn_of_other_code(run: Run, config: Mapping[str, Any]) -> None:
    """Warns, once in a process, if a package of the user that `config` uses is not as it was when `run` was trained.

    Packages that are not trusted are not compared, and neither are runs of versions that recorded no digests.
    """
    changed = version_differences(run.tags, code_tags(config))
    if changed:
        _warn_once(f"run {run.run_id} was trained with another {', and another '.join(changed)}")


@functools.cache
def _warn_once(text: str) -> None:
    log.warning("warning: %s; restore that code, or train again, if the two give different results", text)


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
