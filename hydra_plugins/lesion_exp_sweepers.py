"""The searches as sweepers for applications of Hydra's own: `hydra/sweeper=lesion_exp_grid`, `_random`, `_optuna`.

Hydra takes plugins from the package `hydra_plugins` only, and imports all of it at every start: nothing heavy here.
"""

from __future__ import annotations

from typing import Final

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from lesion_exp.config.shipped_conf import conf_dir
from lesion_exp.sweeps.search.grid import GridSearch
from lesion_exp.sweeps.search.optuna import OptunaSearch
from lesion_exp.sweeps.search.random import RandomSearch


class GridSweeper(GridSearch):
    """See `GridSearch`; the task's value is not looked at."""


class RandomSweeper(RandomSearch):
    """See `RandomSearch`; the task's value is not looked at."""


class OptunaSweeper(OptunaSearch):
    """See `OptunaSearch`; the task returns the value of `metric`, or a list of several."""


SWEEPERS: Final = {"grid": GridSweeper, "random": RandomSweeper, "optuna": OptunaSweeper}

for _option, _sweeper in SWEEPERS.items():
    _node = OmegaConf.load(conf_dir() / "search" / f"{_option}.yaml")
    assert isinstance(_node, DictConfig), "options are mappings"
    _node["_target_"] = f"{_sweeper.__module__}.{_sweeper.__qualname__}"
    if "max_epochs" in _node:
        _node["max_epochs"] = None  # elsewhere there is no trainer to take it from
    ConfigStore.instance().store(group="hydra/sweeper", name=f"lesion_exp_{_option}", node=_node)
