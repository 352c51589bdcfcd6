"""Plans a sweep: composes, freezes and checks every cell before the first one starts."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from lesion_exp.config.annotated import check_annotated
from lesion_exp.config.compose import Bases, Composed, compose, config_folders
from lesion_exp.config.data_folder import DataFolders
from lesion_exp.config.freeze import Job, freeze
from lesion_exp.config.instantiate import check_installed, instantiate, resolve_target
from lesion_exp.config.named_run import Runs
from lesion_exp.config.places import check_places
from lesion_exp.config.registered import TARGET
from lesion_exp.config.watched import usual_monitor
from lesion_exp.errors import ConfigError, UserError
from lesion_exp.evaluation.registry import LOSS
from lesion_exp.loss.validation_loss import changes_validation_loss
from lesion_exp.next_command import key_of
from lesion_exp.privacy import without_secrets
from lesion_exp.progress import Stage
from lesion_exp.sweeps.cell import work_key
from lesion_exp.sweeps.launcher.launcher import make_launcher
from lesion_exp.sweeps.ledger import SweepFacts, new_sweep_id
from lesion_exp.sweeps.search.search import Dimension, GroupOptions, Search, Suggestion, split_overrides
from lesion_exp.tracking.mlflow_values import flat_params
from lesion_exp.training.watched_metrics import check_direction, check_metric

log = logging.getLogger(__name__)

SEED: Final = "seed"
SHARED: Final = frozenset({"launcher", "search", "hydra", "experiment", "debug"})
"""Groups and nodes that must be the same for all cells of a sweep."""
_OBJECTIVE: Final = frozenset({"loss", "pretrain"})
"""Nodes that determine the training objective."""
_LOSS: Final = f"val/{LOSS}"
_DATA: Final = ("dataset", "task", "paths")
_SPLIT: Final = (*_DATA, "split")


@dataclass(frozen=True)
class SweepPlan:
    """A sweep that is not written to a ledger yet."""

    facts: SweepFacts
    cells: tuple[tuple[Job, Suggestion], ...]
    """All cells; empty for an adaptive search."""
    tried: tuple[tuple[Job, Suggestion], ...]
    """The cells that `check` checks: all of them, or for an adaptive search cells in which every value occurs once."""
    first_cell: Composed
    """The config of the first cell, or of a cell with the first value of every key."""

    def check(self) -> None:
        """Checks that every cell can start, and if cells run on this machine that they can train.

        The imports for it take seconds.

        Raises:
            UserError: a target, key, package, file or device does not exist, or the data do not fit; the message names
                the cell.
        """
        with Stage("checking the cells of the sweep", announced=False):
            for job, suggestion in self.tried:
                check_cell(job, suggestion, self.facts.launcher)
            if runs_here(self.facts.launcher):
                check_on_data(self.tried)


def plan_sweep(
    overrides: Sequence[str],
    *,
    config_dirs: Sequence[Path] = (),
    root: Path,
    force: bool = False,
    starts: bool = False,
) -> SweepPlan | None:
    """Plans the sweep of `overrides` and the config's `search.space`; None if no key has several values.

    A launcher that gives cells to a cluster may be given a single run: a sweep of one seed.

    The plan's `check` has to be called before anything is written. Of a sweep that `starts` now, the launcher is
    checked before the cells are composed, which takes long if they are many.

    Raises:
        ConfigError: a name or value of any cell cannot be used, or the launcher cannot start cells (see
            `make_launcher`).
    """
    options = GroupOptions(config_folders(config_dirs))
    fixed, dimensions = split_overrides(overrides, options, {})
    _refuse_shared(dimensions)
    runs: Runs = {}
    data_folders: DataFolders = {}
    base = CellMaker(fixed, config_dirs, root, runs, data_folders).compose(_first_values(dimensions))
    fixed, dimensions = split_overrides(overrides, options, base.search["space"])
    is_single = not dimensions and not runs_here(base.launcher)
    if is_single:
        dimensions = [Dimension(SEED, (str(base.config[SEED]),))]
        fixed = [override for override in fixed if key_of(override) != SEED]
    if not dimensions:
        return None
    _refuse_shared(dimensions)
    if starts:
        make_launcher(base.launcher)
    check_installed({"search": base.search})
    search = make_search(base.search)
    _check_searched(search, base.config)
    _check_same_objective(search, dimensions, base.config)
    maker = CellMaker(fixed, config_dirs, root, runs, data_folders)
    suggestions = search.all_cells(dimensions)
    if is_single and suggestions is None:
        return None
    tried = _each_value_once(dimensions) if suggestions is None else suggestions
    frozen = []
    with Stage("composing", len(tried), "cells", announced=False) as stage:
        for suggestion in tried:
            frozen.append((maker.freeze(suggestion), suggestion))
            stage.advance()
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
        runs=runs,
        folder=str(Path.cwd()),
        data_folders=data_folders,
        skip_bad_images=base.config["dataset"].get("on_bad_image") == "skip",
    )
    return SweepPlan(facts, () if suggestions is None else tuple(_different(frozen)), tuple(frozen), config)


class CellMaker:
    """Composes and freezes the cells of a sweep, which share most of their overrides.

    A name of a run means the same run in all cells: that of `runs`, or the run that it meant in the first of them,
    which is then added. So no cell of a search starts from an earlier one. The folders of data sets are the same in all
    cells, too.
    """

    def __init__(
        self,
        fixed: Sequence[str],
        config_dirs: Sequence[Path],
        root: Path,
        runs: Runs,
        data_folders: DataFolders,
        *,
        conf: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        self.fixed, self.config_dirs, self.root, self.conf = tuple(fixed), tuple(config_dirs), root, conf
        self.runs, self.data_folders, self.folder = runs, data_folders, folder
        self._bases: Bases = {}

    def compose(self, suggestion: Suggestion) -> Composed:
        """Composes the config of a cell.

        Raises:
            ConfigError: the config cannot be used; the message names the cell.
        """
        try:
            return compose(
                [*self.fixed, *suggestion],
                config_dirs=self.config_dirs,
                root=self.root,
                bases=self._bases,
                runs=self.runs,
                in_sweep=True,
                conf=self.conf,
                folder=self.folder,
                data_folders=self.data_folders,
            )
        except ConfigError as error:
            raise ConfigError(f"{error}{_of_cell(suggestion)}") from error

    def freeze(self, suggestion: Suggestion) -> Job:
        """Freezes the job of a cell.

        Raises:
            ConfigError: see `compose`.
        """
        return freeze(self.compose(suggestion))


def check_cell(job: Job, suggestion: Suggestion, launcher: Mapping[str, Any]) -> None:
    """Checks that the cell can start; the imports for it take seconds.

    Raises:
        ConfigError: a target, key, package, file or device does not exist; the message names the cell.
    """
    from lesion_exp.training.run import check_job

    here = runs_here(launcher)
    try:
        if here:
            check_places(job.config)
        check_job(job, here=here)
    except UserError as error:
        raise ConfigError(f"{error}{_of_cell(suggestion)}") from error


def runs_here(launcher: Mapping[str, Any]) -> bool:
    """Returns whether cells with the node `launcher` run on this machine, where devices and data can be checked."""
    return bool(getattr(resolve_target(launcher[TARGET], "launcher"), "here", True))


def check_on_data(cells: Sequence[tuple[Job, Suggestion]]) -> None:
    """Checks that every cell can train on its data; a warning that concerns several cells is given once.

    Each data set is read once and each split is made once. This also prepares the images.

    Raises:
        UserError: the run of a cell would be refused; the message says for how many cells.
    """
    from lesion_exp.training.check_training import check_training
    from lesion_exp.training.data import LoadedData, SplitData, load_data, split_data
    from lesion_exp.training.lineage import with_lineage
    from lesion_exp.training.seen_before import with_inherited
    from lesion_exp.training.teacher import open_teacher

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
            open_teacher(job.config, splits[split_key].classes)
            split, _ = with_inherited(job.config, splits[split_key])
            for text in check_training(job.config, with_lineage(job.config, split)):
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
    """The concerned cells and their number, in words."""
    if len(concerned) == num_cells:
        return f"\n(in all {num_cells} cells)" if num_cells > 1 else ""
    more = f" and {len(concerned) - 1} more" if len(concerned) > 1 else ""
    return f"\n(in {len(concerned)} of {num_cells} cells: {' '.join(concerned[0])}{more})"


def _check_searched(search: Search, config: Mapping[str, Any]) -> None:
    """Checks that the cell `config` has the metrics of the search, and that the search goes in the right direction.

    Raises:
        ConfigError: a metric does not exist, or the direction is wrong.
    """
    for metric, direction in zip(search.metrics, search.directions, strict=True):
        check_metric(
            "search.metric", metric, only_validation=True, added=config["metrics"], pretrains="pretrain" in config
        )
        check_direction("search.direction", direction, metric, lower="minimize", higher="maximize", config=config)


def _check_same_objective(search: Search, dimensions: Sequence[Dimension], config: Mapping[str, Any]) -> None:
    """Checks that a search by the loss of validation compares runs that were trained with the same loss.

    Raises:
        ConfigError: the cells differ in their loss, whose values then have different meanings.
    """
    if _LOSS not in search.metrics:
        return
    params = flat_params({"loss": config["loss"]})
    for dimension in dimensions:
        key = dimension.key.lstrip("+")
        name = key.partition("@")[0]  # of loss@loss.labels the group
        if name.partition(".")[0] in _OBJECTIVE and changes_validation_loss(name, params):
            raise ConfigError(
                f"expected search.metric to be a metric whose values mean the same in all cells, got {_LOSS}, the "
                f"training objective, which {key} changes; for example search.metric={usual_monitor(config)} "
                f"search.direction=maximize"
            )


def make_search(node: dict[str, object]) -> Search:
    """Builds the search that a node `search` describes.

    Raises:
        ConfigError: the target is no search, or refuses its parameters.
    """
    check_annotated(node, "search")
    search = instantiate(node, "search")
    if not isinstance(search, Search):
        raise ConfigError(
            f"expected a class derived from Search in search._target_, got {node['_target_']}; set search=grid"
        )
    return search


def _first_values(dimensions: Sequence[Dimension]) -> Suggestion:
    return tuple(
        dimension.override(dimension.values[0] if dimension.values else dimension.low) for dimension in dimensions
    )


def _each_value_once(dimensions: Sequence[Dimension]) -> list[Suggestion]:
    """Cells in which every value, and both ends of every interval, occur."""
    first = _first_values(dimensions)
    found = [first]
    for place, dimension in enumerate(dimensions):
        others = dimension.values[1:] or ((dimension.high,) if dimension.is_interval else ())
        found += [(*first[:place], dimension.override(value), *first[place + 1 :]) for value in others]
    return found


def _refuse_shared(dimensions: Sequence[Dimension]) -> None:
    for key in (dimension.key.lstrip("+") for dimension in dimensions):
        if key.split(".")[0] in SHARED:
            raise ConfigError(
                f"expected one value for {key}, which is the same for all cells of a sweep, got several; start a sweep "
                f"for each value"
            )


def _different(cells: Sequence[tuple[Job, Suggestion]]) -> list[tuple[Job, Suggestion]]:
    """`cells` without repeated jobs; each that is left out is warned of."""
    first: dict[str, tuple[Job, Suggestion]] = {}
    for job, suggestion in cells:
        key = work_key(job)
        if key in first:
            log.warning("left out %s: it is the same job as %s", _text(suggestion), _text(first[key][1]))
        else:
            first[key] = (job, suggestion)
    return list(first.values())


def _of_cell(suggestion: Suggestion) -> str:
    return f"\n(in the cell {_text(suggestion)})" if suggestion else ""


def _text(suggestion: Suggestion) -> str:
    return " ".join(suggestion)
