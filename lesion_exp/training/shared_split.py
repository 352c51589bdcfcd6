"""The data and the split of jobs, read once for the processes that are forked from this one.

The cells of a sweep have most often the same data and the same split. Their common parent process reads, splits and
audits once (`share_split`); a process that is forked from it then finds the result in its memory (`split_of`), which
the system copies only where it is written to.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from lesion_exp.dataset.source_files import files_below
from lesion_exp.model.inputs import store_request
from lesion_exp.process.peers import Peers
from lesion_exp.progress import without_progress
from lesion_exp.training.data import SplitData, is_pretraining, load_data, split_data
from lesion_exp.training.together import once_a_node

log = logging.getLogger(__name__)

_OF_THE_SPLIT: Final = ("dataset", "task", "split", "paths")
"""Nodes of a job that data and split depend on, beside `store_request`."""
_SHIPPED: Final = "lesion_exp."
"""Readers and splitters in other packages may read anything, so that nobody can see whether it has changed."""
_MOST_KEPT: Final = 8
_KEPT: Final[dict[str, tuple[str, SplitData]]] = {}
"""State of the files and split, by the part of the config that they depend on."""


def split_of(config: Mapping[str, Any], peers: Peers | None = None) -> SplitData:
    """Returns the split of the data of `config` (of a whole job), as `split_data` gives it.

    Of several processes on a machine that a starter began, one reads, splits and audits for all.

    Raises:
        UserError: see `load_data` and `split_data`.
    """
    return once_a_node(peers, lambda: _split_here(config))


def _split_here(config: Mapping[str, Any]) -> SplitData:
    kept = _KEPT.get(_key(config))
    if kept is None or kept[0] != _state_of_files(config) or not kept[1].loaded.store.is_there():
        return split_data(config, load_data(config))
    log.info("data, split and audit were read once for all cells of the sweep with the same data and split")
    split = kept[1]  # whoever adds findings to it must not change those of the next caller
    return replace(split, loaded=replace(split.loaded, flow=copy.deepcopy(split.loaded.flow)))


def share_split(config: Mapping[str, Any]) -> SplitData | None:
    """Reads and splits the data of `config` for `split_of` in this process and those that it forks; returns the split.

    Nothing is kept, and the result is None, where the files that data and split depend on are not known.

    Raises:
        UserError: see `load_data` and `split_data`.
    """
    key = _key(config)
    if not _is_known(config):
        return None
    state, kept = _state_of_files(config), _KEPT.get(key)
    if kept is not None and kept[0] == state and kept[1].loaded.store.is_there():
        return kept[1]
    with without_progress():
        split = split_data(config, load_data(config))
    _KEPT[key] = state, split
    if len(_KEPT) > _MOST_KEPT:
        del _KEPT[next(iter(_KEPT))]
    return split


def _key(config: Mapping[str, Any]) -> str:
    facts = [*(config[node] for node in _OF_THE_SPLIT), str(store_request(config)), is_pretraining(config)]
    return json.dumps(facts, sort_keys=True, default=str)


def _is_known(config: Mapping[str, Any]) -> bool:
    targets = _values_of(config["dataset"], "_target_"), _values_of(config["split"], "_target_")
    return all(str(target).startswith(_SHIPPED) for found in targets for target in found)


def _values_of(node: Any, key: str) -> Iterator[Any]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from [value] if name == key else _values_of(value, key)


def _state_of_files(config: Mapping[str, Any]) -> str:
    """A digest of path, size and time of change of each file below the folders that the config names."""
    digest = hashlib.sha256()
    for place in sorted(set(_places(config["dataset"])) | set(_places(config["split"]))):
        for file in sorted(files_below(place)) if place.is_dir() else [place]:
            found = file.stat()
            digest.update(f"{file}\t{found.st_size}\t{found.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _places(node: Any) -> Iterator[Path]:
    """The files and folders that exist among the texts of a node."""
    if isinstance(node, Mapping):
        for value in node.values():
            yield from _places(value)
    elif isinstance(node, str) and Path(node).is_absolute() and Path(node).exists():
        yield Path(node)
