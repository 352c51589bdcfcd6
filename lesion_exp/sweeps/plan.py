"""From a command with several values to frozen jobs: every cell is composed and checked before any of them starts."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from lesion_exp.config.compose import Bases, Composed, compose, config_folders
from lesion_exp.config.freeze import Job, freeze
from lesion_exp.config.instantiate import check_installed, instantiate, resolve_target
from lesion_exp.config.registered import TARGET
from lesion_exp.errors import ConfigError, UserError
from lesion_exp.privacy import without_secrets
from lesion_exp.sweeps.ledger import SweepFacts, new_sweep_id
from lesion_exp.sweeps.search.dimension import Dimension, GroupOptions, split_overrides
from lesion_exp.sweeps.search.search import Search, Suggestion
from lesion_exp.training.watched_metrics import check_direction, check_metric

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


SHARED: Final = frozenset({"launcher", "search", "hydra", "experiment", "debug"})
"""Groups and nodes that are the same for all cells of a sweep."""


@dataclass(frozen=True)
class SweepPlan:
    """A sweep before it is written down."""

    facts: SweepFacts
    cells: tuple[tuple[Job, Suggestion], ...]
    """Empty where the search asks for cells one after another."""
    tried: tuple[tuple[Job, Suggestion], ...]
    """What `check` looks at: all cells, or cells in which every value occurs once."""
    first_cell: Composed
    """The config of the first cell, or of a cell with the first value of every key."""

    def check(self) -> None:
        """Checks that every cell can start, and on this machine that it can train; the imports for it last seconds.

        Raises:
            UserError: a target, key, package, file or device that is not there, or data that do not fit; the message
                names the cell.
        """
        for job, suggestion in self.tried:
            check_cell(job, suggestion, self.facts.launcher)
        if runs_here(self.facts.launcher):
            check_on_data(self.tried)


class CellMaker:
    """Freezes the jobs of cells that share most of their overrides."""

    def __init__(self, fixed: Sequence[str], config_dirs: Sequence[Path], root: Path, conf: Path | None = None) -> None:
        self.fixed, self.config_dirs, self.root, self.conf = tuple(fixed), tuple(config_dirs), root, conf
        self._bases: Bases = {}

    def compose(self, suggestion: Suggestion) -> Composed:
        """The config of a cell.

        Raises:
            ConfigError: something in it that cannot be used; the message names the cell.
        """
        try:
            return compose(
                [*self.fixed, *suggestion],
                config_dirs=self.config_dirs,
                root=self.root,
                bases=self._bases,
                in_sweep=True,
                conf=self.conf,
            )
        except ConfigError as error:
            raise ConfigError(f"{error}{_of_cell(suggestion)}") from error

    def freeze(self, suggestion: Suggestion) -> Job:
        """The frozen job of a cell.

        Raises:
            ConfigError: as `compose`.
        """
        return freeze(self.compose(suggestion))


def check_cell(job: Job, suggestion: Suggestion, launcher: Mapping[str, Any]) -> None:
    """Checks that the cell can start. What this needs takes seconds to import.

    Raises:
        ConfigError: a target, key, package, file or device that is not there; the message names the cell.
    """
    from lesion_exp.training.run import check_job

    try:
        check_job(job, here=runs_here(launcher))
    except UserError as error:
        raise ConfigError(f"{error}{_of_cell(suggestion)}") from error


def runs_here(launcher: Mapping[str, Any]) -> bool:
    """Whether the cells of the node `launcher` run on this machine, so that what they need can be looked for here."""
    return bool(getattr(resolve_target(launcher[TARGET], "launcher"), "here", True))


def plan_sweep(
    overrides: Sequence[str], *, config_dirs: Sequence[Path] = (), root: Path, force: bool = False
) -> SweepPlan | None:
    """The sweep that `overrides` and the config's own `search.space` describe; None where nothing has several values.

    Its `check` comes next, before anything is written.

    Raises:
        ConfigError: a name or value that cannot be used, in any cell.
    """
    options = GroupOptions(config_folders(config_dirs))
    fixed, dimensions = split_overrides(overrides, options, {})
    _refuse_shared(dimensions)
    base = CellMaker(fixed, config_dirs, root).compose(_first_values(dimensions))
    fixed, dimensions = split_overrides(overrides, options, base.search["space"])
    if not dimensions:
        return None
    _refuse_shared(dimensions)
    check_installed({"search": base.search})
    search = make_search(base.search)
    _check_searched(search, base.config)
    maker = CellMaker(fixed, config_dirs, root)
    suggestions = search.all_cells(dimensions)
    tried = _each_value_once(dimensions) if suggestions is None else suggestions
    frozen = tuple((maker.freeze(suggestion), suggestion) for suggestion in tried)
    for job, _ in frozen:
        if job.config["metrics"] != base.config["metrics"]:
            _check_searched(search, job.config)
    config = maker.compose(tried[0])
    facts = SweepFacts(
        sweep_id=new_sweep_id(),
        created=time.time(),
        overrides=tuple(without_secrets(list(overrides))),
        fixed=tuple(without_secrets(list(fixed))),
        keys=tuple(dimension.key.lstrip("+") for dimension in dimensions),
        launcher=base.launcher,
        search=base.search,
        store={node: frozen[0][0].config[node] for node in ("tracking", "paths")},
        space=tuple(asdict(dimension) for dimension in dimensions) if suggestions is None else (),
        force=force,
    )
    return SweepPlan(facts, () if suggestions is None else tuple(_different(frozen)), frozen, config)


def _check_searched(search: Search, config: Mapping[str, Any]) -> None:
    """Checks that the cell `config` has what the search looks at, and that the search goes in the right direction.

    Raises:
        ConfigError: it has no such metric, or the other direction is the better one.
    """
    for metric, direction in zip(search.metrics, search.directions, strict=True):
        check_metric("search.metric", metric, only_validation=True, added=config["metrics"])
        check_direction("search.direction", direction, metric, lower="minimize", higher="maximize", config=config)


def make_search(node: dict[str, object]) -> Search:
    """The search that a node `search` describes.

    Raises:
        ConfigError: a target that is no search, or values that it refuses.
    """
    search = instantiate(node, "search")
    if not isinstance(search, Search):
        raise ConfigError(f"expected a class derived from Search in search._target_, got {node['_target_']}")
    return search


def _first_values(dimensions: Sequence[Dimension]) -> Suggestion:
    return tuple(
        dimension.override(dimension.values[0] if dimension.values else dimension.low) for dimension in dimensions
    )


def _each_value_once(dimensions: Sequence[Dimension]) -> list[Suggestion]:
    """Cells in which every value, and both ends of every interval, occurs: what a search may ask for later."""
    first = _first_values(dimensions)
    found = [first]
    for place, dimension in enumerate(dimensions):
        others = dimension.values[1:] or ((dimension.high,) if dimension.is_interval else ())
        found += [(*first[:place], dimension.override(value), *first[place + 1 :]) for value in others]
    return found


def _refuse_shared(dimensions: Sequence[Dimension]) -> None:
    for key in (dimension.key.lstrip("+") for dimension in dimensions):
        if key.split(".")[0] in SHARED:
            raise ConfigError(f"expected one value for {key}: it is the same for all cells of a sweep")


def _different(cells: Sequence[tuple[Job, Suggestion]]) -> list[tuple[Job, Suggestion]]:
    """Each job once."""
    first: dict[str, tuple[Job, Suggestion]] = {}
    for job, suggestion in cells:
        if job.job_hash in first:
            log.warning("left out %s: it is the same job as %s", _text(suggestion), _text(first[job.job_hash][1]))
        else:
            first[job.job_hash] = (job, suggestion)
    return list(first.values())


def _of_cell(suggestion: Suggestion) -> str:
    return f"\n(in the cell {_text(suggestion)})" if suggestion else ""


def _text(suggestion: Suggestion) -> str:
    return " ".join(suggestion)
