"""Checks a job as far as that goes without torch, whose import takes seconds; `check_job` does the rest."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, Final

from lesion_exp.backbone.options import shared_options
from lesion_exp.config.instantiate import check_installed, instantiate, needed_package
from lesion_exp.config.project import Project
from lesion_exp.errors import not_installed
from lesion_exp.tracking.store import check_address
from lesion_exp.training.data import make_splitter

_LORA: Final = "lesion_exp.backbone.lora"


def check_without_torch(config: Mapping[str, Any]) -> None:
    """Checks the packages, the sampler, the split and the store of a job with this `config`.

    Raises:
        ConfigError: a package is not installed, a value is refused, or the store cannot be reached.
    """
    check_installed(config)
    shared_options(config["backbone"])
    package = needed_package(_LORA) if config["backbone"].get("tune") == "lora" else None
    if package is not None and importlib.util.find_spec(package) is None:
        raise not_installed(package, "backbone.tune=lora")
    instantiate(config["sampler"], "sampler")
    make_splitter(config["split"])
    project = Project.from_config(config)
    check_address(project.store_uri, project.root)
