"""The verb `leakage`: measures by how much common mistakes in splitting inflate a score."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lesion_exp.command.arguments import (
    Arguments,
    check_store_keys,
    compose_config,
    prepare_process,
)
from lesion_exp.command.chosen_run import SWEEP, SWEEP_NAMES
from lesion_exp.command.sweep import LAUNCHER, announce, drive_to_end, launcher_node, show_plan, shown_cell
from lesion_exp.config.command_words import place_words
from lesion_exp.config.shipped_conf import find_root
from lesion_exp.next_command import next_command
from lesion_exp.option import Truth, option
from lesion_exp.terminal import console, say

if TYPE_CHECKING:
    from lesion_exp.sweeps.ledger import Sweep

_UNFINISHED = ("failed", "cancelled")


@dataclass(frozen=True)
class LeakageOptions:
    """The options of `leakage` that are not keys of the config."""

    sweep: str | None = option(None, SWEEP, f"continue an earlier leak meter, or show its result again: {SWEEP_NAMES}")
    force: bool = option(False, Truth(), "train again also the networks that have a finished run in the store")


def leakage(arguments: Arguments) -> int:
    """Trains what is not trained yet and shows the result on standard output: tables, or one JSON object."""
    prepare_process(arguments)
    wanted, number = arguments.read(LeakageOptions), shown_cell(arguments)
    found = _planned(arguments, wanted.force, number) if wanted.sweep is None else _named(arguments, wanted.sweep)
    if found is None:
        return 0
    sweep, launcher = found
    from lesion_exp.sweeps.summary import summarize
    from lesion_exp.verbs.leakage.meter import measure

    store = sweep.project.store
    summary = summarize(sweep)
    if set(summary.counts()) != {"finished"}:
        from lesion_exp.sweeps.launcher.launcher import make_launcher

        summary = drive_to_end(sweep, make_launcher(launcher), store, _UNFINISHED)
    if set(summary.counts()) != {"finished"}:
        place = place_words(sweep.facts.overrides, sweep.facts.store)
        again = next_command("leakage", f"sweep={sweep.facts.sweep_id}", *place)
        say(
            f"{again} continues the leak meter; the logs of its trainings are in {sweep.folder / 'cells'}",
            sys.stderr,
        )
        return 1
    measured = measure(summary.sweep, store)
    if arguments.json:
        print(json.dumps(measured.report.to_dict()))
    else:
        from lesion_exp.verbs.leakage.leakage_report import show_report

        show_report(measured.report, console(sys.stdout))
    say(f"leak meter: run {measured.report.run_id}\nfigure:     {measured.figure}", sys.stderr)
    return 0


def _planned(arguments: Arguments, force: bool, number: int | None) -> tuple[Sweep, dict[str, Any]] | None:
    """The leak meter that was begun with the same config, else a new one, and its launcher.

    None after `--cfg job`, which prints its cells, or the config of the cell `number`.
    """
    from lesion_exp.config.compose import config_folders
    from lesion_exp.sweeps.ledger import create_sweep
    from lesion_exp.verbs.leakage.plan import plan_meter, same_meter

    dirs, root = arguments.config_dirs, find_root(Path.cwd())
    starts = not arguments.print_config
    plan = plan_meter(arguments.overrides, config_dirs=dirs, root=root, force=force, starts=starts)
    if not starts:
        show_plan(plan, number)
        return None
    plan.check()
    folder, launcher = plan.first_cell.project.sweeps, dict(plan.facts.launcher)
    known = None if force else same_meter(folder, plan)
    if known is not None:
        say(f"the leak meter {known.facts.sweep_id} was begun with this config and is continued", sys.stderr)
        return known, launcher
    announce(plan, replace(arguments, show_tree=arguments.show_tree and not arguments.json))
    plan.first_cell.project.opened()
    return create_sweep(folder, plan.facts, plan.cells, config_folders(dirs)), launcher


def _named(arguments: Arguments, spec: str) -> tuple[Sweep, dict[str, Any]]:
    """The leak meter that `sweep=` names, and its launcher with the settings on the command line."""
    from lesion_exp.verbs.leakage.plan import find_meter

    given = arguments.take_below(LAUNCHER)
    check_store_keys(arguments)
    sweep = find_meter(compose_config(arguments).project.sweeps, spec)
    return sweep, launcher_node(sweep.facts.launcher, given)
