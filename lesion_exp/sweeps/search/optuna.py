"""A search whose values Optuna proposes from the results of earlier cells."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import os
import random
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from hydra.core.utils import JobReturn

from lesion_exp.errors import ConfigError, check_choice, not_installed
from lesion_exp.evaluation.registry import Direction
from lesion_exp.privacy import redacted
from lesion_exp.sweeps.search.search import AdaptiveSearch, Dimension, Suggestion

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

PACKAGE: Final = "optuna"
SamplerName = Literal["tpe", "cmaes", "nsga2", "random"]
PrunerName = Literal["none", "median", "hyperband"]
JOURNAL: Final = "optuna.log"
"""The storage of the Optuna study in the folder of the sweep; Optuna's tools open it as a journal file."""
STUDY: Final = "sweep"
_DROPPED: Final = "dropped"
_TRIED_AGAIN: Final = "tried_again"
"""User attributes of trials: a trial that never became a cell; the number of a failed trial that was repeated."""


class OptunaSearch(AdaptiveSearch):
    """Proposes at most `num_cells` cells one after another, also while others are running.

    The sampler of a cell depends only on the study, the number of the cell and `seed`, so that an interrupted study
    continues as if it had not been interrupted.

    Raises:
        ConfigError: the sampler or pruner does not exist or does not support the number of metrics, or a number is too
            small.
    """

    def __init__(
        self,
        metric: str | Sequence[str],
        direction: Direction | Sequence[Direction],
        num_cells: int,
        sampler: SamplerName,
        startup_cells: int,
        seed: int,
        pruner: PrunerName,
        pruner_startup_cells: int,
        warmup_epochs: int,
        max_epochs: int | None,
        space: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(metric, direction, space)
        least = {"num_cells": 1, "startup_cells": 2, "pruner_startup_cells": 1, "warmup_epochs": 0}
        given = (num_cells, startup_cells, pruner_startup_cells, warmup_epochs)
        for (name, bound), number in zip(least.items(), given, strict=True):
            if number < bound:
                raise ConfigError(f"expected search.{name} of at least {bound}, got {number}")
        check_choice("search.sampler", sampler, get_args(SamplerName))
        check_choice("search.pruner", pruner, get_args(PrunerName))
        if len(self.metrics) > 1 and pruner != "none":
            raise ConfigError(
                f"expected search.pruner=none with {len(self.metrics)} metrics, got {pruner}: a cell that is behind in "
                f"one of them may lead in another; name one metric to prune by it"
            )
        if len(self.metrics) > 1 and sampler == "cmaes":
            raise ConfigError(
                "expected search.sampler=nsga2 or search.sampler=tpe with several metrics, got cmaes, which takes one"
            )
        if pruner == "hyperband" and (max_epochs is None or max_epochs <= max(1, warmup_epochs)):
            raise ConfigError(
                f"expected search.max_epochs above search.warmup_epochs for search.pruner=hyperband, got {max_epochs} "
                f"and {warmup_epochs}; it is trainer.max_epochs unless it is given"
            )
        self.num_cells, self.sampler, self.startup_cells, self.seed = num_cells, sampler, startup_cells, seed
        self.pruner, self.pruner_startup_cells = pruner, pruner_startup_cells
        self.warmup_epochs, self.max_epochs = warmup_epochs, max_epochs

    def all_cells(self, dimensions: Sequence[Dimension]) -> None:
        """See the base class; returns None, since results decide.

        Raises:
            ConfigError: the sampler cannot search the dimensions, or a package is missing.
        """
        if self.sampler == "cmaes":
            if importlib.util.find_spec("cmaes") is None:
                raise not_installed("cmaes", "search.sampler=cmaes")
            intervals = [dimension.key for dimension in dimensions if dimension.is_interval]
            if len(intervals) < 2:
                raise ConfigError(
                    f"expected at least two intervals for search.sampler=cmaes, got {len(intervals)}; "
                    f"search.sampler=tpe searches choices and single intervals"
                )
            if len(intervals) < len(dimensions):
                log.warning(
                    "search.sampler=cmaes optimises %s only; other keys are drawn at random", ", ".join(intervals)
                )
        if self.sampler != "random" and self.startup_cells >= self.num_cells:
            log.warning(
                "all %d cells are drawn at random: %s learns after search.startup_cells=%d",
                self.num_cells, self.sampler, self.startup_cells,
            )  # fmt: skip

    def begin(self, dimensions: Sequence[Dimension], folder: Path, known: Collection[int] = ()) -> None:
        """Opens the study in `folder`, which no other process may use; see the base class.

        Raises:
            ConfigError: Optuna is not installed.
        """
        try:
            self._optuna = importlib.import_module(PACKAGE)
        except ModuleNotFoundError as error:
            raise not_installed(PACKAGE, "search=optuna") from error
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        self._dimensions = {dimension.key: dimension for dimension in dimensions}
        journal = importlib.import_module("optuna.storages.journal")
        _repair(folder / JOURNAL)
        self._study = self._optuna.create_study(
            storage=self._optuna.storages.JournalStorage(journal.JournalFileBackend(str(folder / JOURNAL))),
            study_name=STUDY,
            directions=self.directions,
            pruner=self._pruner(),
            load_if_exists=True,
        )
        before: dict[str, BaseDistribution] = {}
        for trial in self._trials():
            before |= trial.distributions
            if not trial.state.is_finished() and trial.number not in known:
                self.drop(trial.number)
        self._distributions = {
            key: self._distribution(dimension, before.get(key)) for key, dimension in self._dimensions.items()
        }

    def ask(self) -> tuple[int, Suggestion] | None:
        """See the base class."""
        trials = self._trials()
        if sum(_counts(trial) for trial in trials) >= self.num_cells:
            return None
        self._study.sampler = self._sampler(random.Random(f"{self.seed}/{len(trials)}").randrange(2**32))
        trial = self._study.ask(fixed_distributions=self._distributions)
        return trial.number, tuple(
            dimension.override(_readable(trial.params[key], dimension)) for key, dimension in self._dimensions.items()
        )

    def drop(self, number: int) -> None:
        """See the base class."""
        trial = self._trials()[number]
        self._storage.set_trial_user_attr(trial._trial_id, _DROPPED, True)
        self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)

    def tell(self, number: int, values: Sequence[float] | None, *, pruned: bool = False) -> None:
        """See the base class. The result of a pruned trial is the last value passed to `should_stop`."""
        states, trial = self._optuna.trial.TrialState, self._trials()[number]
        usable = values is not None and not any(math.isnan(value) for value in values)
        if trial.state == states.FAIL and usable and not pruned:
            self._tell_again(trial, values)
        if trial.state.is_finished():
            return
        if pruned and len(self.metrics) == 1:
            self._study.tell(number, state=states.PRUNED)
        elif usable:
            self._study.tell(number, values)
        else:
            self._study.tell(number, state=states.FAIL)

    def most_cells(self) -> int:
        """See the base class."""
        return self.num_cells

    def should_stop(self, number: int, epoch: int, value: float) -> bool:
        """See the base class; the value is stored in the study."""
        trial = self._trials()[number]
        if len(self.metrics) > 1 or trial.state.is_finished():
            return False
        if epoch not in trial.intermediate_values:
            self._storage.set_trial_intermediate_value(trial._trial_id, epoch, value)
        return bool(self._study.pruner.prune(self._study, self._trials()[number]))

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """See the base class.

        Raises:
            ConfigError: a pruner is set, but tasks of other applications do not report epochs.
        """
        if self.pruner != "none":
            raise ConfigError(f"expected search.pruner=none outside lesion-exp, got {self.pruner}")
        return super().sweep(arguments)

    @property
    def _storage(self) -> Any:
        return self._study._storage

    def _trials(self) -> list[FrozenTrial]:
        found: list[FrozenTrial] = self._study.get_trials(deepcopy=False)
        return found

    def _tell_again(self, failed: FrozenTrial, values: Sequence[float] | None) -> None:
        """Adds a further trial with the new result, since Optuna does not change a finished one."""
        if any(trial.user_attrs.get(_TRIED_AGAIN) == failed.number for trial in self._trials()):
            return
        self._study.add_trial(
            self._optuna.trial.create_trial(
                params=failed.params,
                distributions=failed.distributions,
                values=values,
                intermediate_values=failed.intermediate_values,
                user_attrs={_TRIED_AGAIN: failed.number},
            )
        )

    def _distribution(self, dimension: Dimension, before: BaseDistribution | None) -> BaseDistribution:
        """The values to draw from; choices are spelled as in `before`, the distribution in the study.

        Optuna refuses other choices. The ledger has `~` for the home folder, and does not say where it was typed.
        """
        kinds = self._optuna.distributions
        if not dimension.is_interval:
            choices, known = tuple(dict.fromkeys(dimension.values)), getattr(before, "choices", ())
            found = kinds.CategoricalDistribution(known if redacted(known) == redacted(choices) else choices)
        else:
            kind = kinds.IntDistribution if dimension.is_integer else kinds.FloatDistribution
            found = kind(dimension.low, dimension.high, log=dimension.is_log)
        distribution: BaseDistribution = found
        return distribution

    def _sampler(self, seed: int) -> BaseSampler:
        samplers = self._optuna.samplers
        made: BaseSampler
        if self.sampler == "tpe":
            made = samplers.TPESampler(n_startup_trials=self.startup_cells, seed=seed, constant_liar=True)
        elif self.sampler == "cmaes":
            made = samplers.CmaEsSampler(
                n_startup_trials=self.startup_cells, seed=seed, warn_independent_sampling=False
            )
        elif self.sampler == "nsga2":
            made = samplers.NSGAIISampler(population_size=self.startup_cells, seed=seed)
        else:
            made = samplers.RandomSampler(seed=seed)
        return made

    def _pruner(self) -> BasePruner:
        pruners = self._optuna.pruners
        made: BasePruner
        if self.pruner == "median":
            made = pruners.MedianPruner(
                n_startup_trials=self.pruner_startup_cells, n_warmup_steps=self.warmup_epochs + 1
            )
        elif self.pruner == "hyperband":
            made = pruners.HyperbandPruner(min_resource=max(1, self.warmup_epochs), max_resource=self.max_epochs)
        else:
            made = pruners.NopPruner()
        return made


def _counts(trial: FrozenTrial) -> bool:
    """Whether a trial counts as a cell."""
    return _DROPPED not in trial.user_attrs and _TRIED_AGAIN not in trial.user_attrs


def _readable(value: Any, dimension: Dimension) -> str | float:
    """A value with six significant digits, as in other searches, within the bounds."""
    if isinstance(value, float):
        return min(max(float(f"{value:.6g}"), dimension.low), dimension.high)
    kept: str | int = value
    return kept


def _repair(journal: Path) -> None:
    """Removes what a killed process left: an incomplete line, and a lock that no process holds."""
    Path(f"{journal}.lock").unlink(missing_ok=True)
    if not journal.exists():
        return
    with journal.open("rb+") as file:
        text = file.read()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            file.truncate(whole)
            os.fsync(file.fileno())
