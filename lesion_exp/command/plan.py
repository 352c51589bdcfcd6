"""The verb `plan`: writes a preset for a data set, this machine and a budget of time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lesion_exp.command.arguments import Arguments, prepare_process
from lesion_exp.config.shipped_conf import find_root
from lesion_exp.errors import ConfigError
from lesion_exp.terminal import say
from lesion_exp.verbs.plan.request import PlanRequest

if TYPE_CHECKING:
    from lesion_exp.verbs.plan.plan import Plan


def plan(arguments: Arguments) -> int:
    """Shows the choices with their reasons on standard output, or one JSON object."""
    made = planned(arguments)
    print(json.dumps(made.to_dict())) if arguments.json else say(made.text.rstrip("\n"))
    say(f"\npreset: {made.file}\ntrain:  {made.command}", sys.stderr)
    return 0


def planned(arguments: Arguments) -> Plan:
    """Returns the plan that the arguments ask for; its preset is written."""
    request = arguments.read(PlanRequest)
    prepare_process(arguments)
    if arguments.print_config:
        raise ConfigError("expected no --cfg job: plan writes a preset; train, prepare and preview take it")
    from lesion_exp.config.compose import compose
    from lesion_exp.config.places import check_places

    root = find_root(Path.cwd())
    config = compose(arguments.overrides, config_dirs=arguments.config_dirs, root=root).config
    check_places(config)
    from lesion_exp.training.data import read_ahead

    with read_ahead(config["dataset"]):
        from lesion_exp.verbs.plan.plan import make_plan

        return make_plan(arguments.overrides, request, root=root, config_dirs=arguments.config_dirs)
