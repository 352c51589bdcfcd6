"""Cells and their data, looked at together once, before the first cell begins."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lesion_exp.errors import UserError
from lesion_exp.config.freeze import Job
from lesion_exp.sweeps.search.search import Suggestion

log = logging.getLogger(__name__)

_DATA: Final = ("dataset", "task", "paths")
_SPLIT: Final = (*_DATA, "split")


def check_on_data(cells: Sequence[tuple[Job, Suggestion]]) -> None:
    """Checks that every cell can train on its data; warns once of what concerns several, with their number.

    Each data set is read and each split is made once. The images are prepared for the first cell here, and not in it.

    Raises:
        UserError: a cell whose run would be refused, and how many others would be, for the same reason.
    """
    from lesion_exp.training.check_training import check_training
    from lesion_exp.training.data import LoadedData, SplitData, load_data, split_data

    loaded: dict[str, LoadedData] = {}
    splits: dict[str, SplitData] = {}
    refused: dict[str, tuple[UserError, list[Suggestion]]] = {}
    warned: dict[str, list[Suggestion]] = {}
    for job, suggestion in cells:
        data_key, split_key = (_key(job.config, nodes) for nodes in (_DATA, _SPLIT))
        try:
            if data_key not in loaded:
                loaded[data_key] = load_data(job.config)
            if split_key not in splits:
                splits[split_key] = split_data(job.config, loaded[data_key])
            for text in check_training(job.config, splits[split_key]):
                warned.setdefault(text, []).append(suggestion)
        except UserError as error:
            refused.setdefault(str(error), (error, []))[1].append(suggestion)
    for text, concerned in warned.items():
        log.warning("warning: %s%s", text, _of_cells(concerned, len(cells)))
    for text, (refusal, concerned) in refused.items():
        raise type(refusal)(f"{text}{_of_cells(concerned, len(cells))}") from refusal


def _key(config: Mapping[str, Any], nodes: Sequence[str]) -> str:
    return json.dumps({node: config[node] for node in nodes}, sort_keys=True, default=str)


def _of_cells(concerned: Sequence[Suggestion], num_cells: int) -> str:
    """Which cells, of how many."""
    if len(concerned) == num_cells:
        return f"\n(in all {num_cells} cells)" if num_cells > 1 else ""
    more = f" and {len(concerned) - 1} more" if len(concerned) > 1 else ""
    return f"\n(in {len(concerned)} of {num_cells} cells: {' '.join(concerned[0])}{more})"
