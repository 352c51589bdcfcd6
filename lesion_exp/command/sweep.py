"""`train -m` and the verb `sweep`: runs a sweep, shows, resumes, retries and cancels it."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lesion_exp.command.arguments import (
    Arguments,
    check_store_keys,
    compared_defaults,
    prepare_process,
    print_config,
)
from lesion_exp.command.chosen_run import SWEEP, SWEEP_NAMES
from lesion_exp.config.command_words import place_words
from lesion_exp.config.project import Project
from lesion_exp.config.registered import TARGET, check_registered
from lesion_exp.config.shipped_conf import find_root
from lesion_exp.errors import ConfigError, did_you_mean
from lesion_exp.next_command import next_command
from lesion_exp.option import Truth, option, whole
from lesion_exp.terminal import console, say

if TYPE_CHECKING:
    from lesion_exp.sweeps.launcher.launcher import Launcher
    from lesion_exp.sweeps.ledger import Sweep
    from lesion_exp.sweeps.plan import SweepPlan
    from lesion_exp.sweeps.summary import Summary
    from lesion_exp.tracking.store import Store

log = logging.getLogger(__name__)

ACTIONS: Final = ("status", "resume", "retry", "cancel")
LAUNCHER: Final = "launcher"
WATCH_SECONDS: Final = 5.0
CANCEL_SECONDS: Final = 100.0


@dataclass(frozen=True)
class CellOptions:
    """The options of `train -m`."""

    force: bool = option(
        False, Truth(), "with -m: train again also the cells whose job has a finished run in the store"
    )


@dataclass(frozen=True)
class ShownCell:
    """The option of `--cfg job` for a sweep."""

    cell: int | None = option(
        None,
        whole(0, example="0"),
        "with --cfg job: print the config of cell N of the sweep; without it, --cfg job lists the cells",
    )


@dataclass(frozen=True)
class SweepOptions:
    """The options of `sweep`."""

    sweep: str = option("latest", SWEEP, f"{SWEEP_NAMES}; may be given without sweep=")


def launch(arguments: Arguments) -> int:
    """Runs the sweep that the command describes, and prints the id of its parent run."""
    summary = launched(arguments)
    return 0 if summary is None else _end(summary.sweep, summary)


def launched(arguments: Arguments) -> Summary | None:
    """Runs the sweep that the arguments describe, and evaluates its folds as one; None after `--cfg job`."""
    prepare_process(arguments)
    force, number = arguments.read(CellOptions).force, shown_cell(arguments)
    from lesion_exp.config.compose import config_folders
    from lesion_exp.config.places import check_given_weights, check_places
    from lesion_exp.sweeps.ledger import create_sweep
    from lesion_exp.sweeps.plan import plan_sweep, runs_here

    if not arguments.print_config:
        check_given_weights(arguments.overrides)
    root = find_root(Path.cwd())
    starts = not arguments.print_config
    plan = plan_sweep(arguments.overrides, config_dirs=arguments.config_dirs, root=root, force=force, starts=starts)
    if plan is None:
        raise ConfigError(
            "expected several values of a key after -m, such as seed=1,2,3, got single values; leave -m out for one run"
        )
    if not starts:
        show_plan(plan, number)
        return None
    for job, _ in plan.tried:
        check_registered(job.config)
    check_places(plan.first_cell.config)
    announce(plan, arguments)
    from lesion_exp.sweeps.launcher.launcher import make_launcher
    from lesion_exp.training.data import read_ahead
    from lesion_exp.training.first_checks import check_without_torch

    for job, _ in plan.tried:
        check_without_torch(job.config)
    launcher = make_launcher(dict(plan.facts.launcher))
    launcher.warm_up()
    try:
        is_here = runs_here(plan.facts.launcher)
        with read_ahead(plan.first_cell.config["dataset"]) if is_here else nullcontext():
            plan.check()
        store = plan.first_cell.project.store
        folder = plan.first_cell.project.sweeps
        sweep = create_sweep(folder, plan.facts, plan.cells, config_folders(arguments.config_dirs))
    except BaseException:
        launcher.close()
        raise
    summary = drive_to_end(sweep, launcher, store)
    with _cells_are_kept(sweep):
        _show_results(summary, store)
    return summary


def shown_cell(arguments: Arguments) -> int | None:
    """Returns the number of the cell whose config `--cfg job` is to print; None if none is named.

    Raises:
        ConfigError: it is named without `--cfg job`.
    """
    number = arguments.read(ShownCell).cell
    if number is not None and not arguments.print_config:
        raise ConfigError(
            f"expected --cfg job beside cell={number}, which prints the config of one cell and trains nothing; add "
            f"--cfg job, or leave cell={number} out"
        )
    return number


def show_plan(plan: SweepPlan, number: int | None) -> None:
    """Prints the config of the cell `number`, or without a number what the cells of the sweep are.

    Raises:
        ConfigError: there is no cell of this number.
    """
    cells = plan.cells or plan.tried
    if number is not None:
        if number >= len(cells):
            raise ConfigError(f"expected cell= to be from 0 to {len(cells) - 1}, got {number}; choose one of these")
        print_config(cells[number][0].config)
        return
    for line in _listed(plan):
        print(line)
    keys = ", ".join(plan.facts.keys)
    if plan.cells:
        say(f"{_counted(len(cells))} of a sweep over {keys}; add cell=0 to print the config of cell 0", sys.stderr)
        return
    num_cells = plan.facts.search.get("num_cells")
    most = f", {num_cells} at most," if num_cells else ""
    say(
        f"a search over {keys} chooses its cells{most} one after another; add cell=0 to print the config of a cell "
        f"with the first value of each key",
        sys.stderr,
    )


def _listed(plan: SweepPlan) -> list[str]:
    """A line for each cell with what it sets, or for each key of a search with the values from which it chooses."""
    if plan.cells:
        return [f"cell {number}: {' '.join(suggestion)}" for number, (_, suggestion) in enumerate(plan.cells)]
    return [f"{one['key']}: {_values(one)}" for one in plan.facts.space]


def _values(dimension: Mapping[str, Any]) -> str:
    if dimension["values"]:
        return ", ".join(map(str, dimension["values"]))
    kind = "whole numbers" if dimension["is_integer"] else "numbers"
    return f"{kind} from {dimension['low']} to {dimension['high']}{', logarithmically' if dimension['is_log'] else ''}"


def sweep(arguments: Arguments) -> int:
    """Shows, resumes, retries or cancels a sweep."""
    words = arguments.positional()
    action = words[0] if words else ""
    if action not in ACTIONS:
        raise ConfigError(
            f"expected sweep {'|'.join(ACTIONS)}, got {action or 'none'}{did_you_mean(action, ACTIONS)}; for example "
            f"lesion-exp sweep status latest"
        )
    if len(words) > 2:
        raise ConfigError(f"expected one sweep after sweep {action}, got {' '.join(words[1:])}; name one of them")
    spec = words[1] if len(words) == 2 else arguments.read(SweepOptions).sweep
    given = arguments.take_below(LAUNCHER) if action in {"resume", "retry"} else {}
    check_store_keys(arguments)
    prepare_process(arguments)
    from lesion_exp.config.compose import compose
    from lesion_exp.sweeps.ledger import find_sweep

    composed = compose(arguments.overrides, config_dirs=arguments.config_dirs, root=find_root(Path.cwd()))
    found = find_sweep(composed.project.sweeps, spec)
    if action == "status":
        return _status(found, arguments)
    if action == "cancel":
        return _cancel(found)
    again = ("failed", "cancelled") if action == "retry" else ()
    return _go_on(found, again, given)


def _go_on(sweep: Sweep, again: Collection[str], given: Mapping[str, str]) -> int:
    from lesion_exp.sweeps.driver import conclude
    from lesion_exp.sweeps.launcher.launcher import make_launcher
    from lesion_exp.sweeps.summary import summarize

    launcher = make_launcher(launcher_node(sweep.facts.launcher, given))
    known = summarize(sweep)
    counts = known.counts()
    if not {"queued", "running", *again} & set(counts):
        _show(known)
        retry = f"; {_command(sweep, 'retry')} runs the failed cells again"
        log.info("no cell is left to run%s", retry if "failed" in counts else "")
        store = sweep.project.store
        summary = conclude(sweep, store)
        _show_results(summary, store)
        return _end(sweep, summary)
    _check_trusted(sweep, known, again)
    return _drive(sweep, launcher, sweep.project.store, again)


def _check_trusted(sweep: Sweep, known: Summary, again: Collection[str]) -> None:
    """Checks that the user trusts the code of the cells that are left, of which none would otherwise finish.

    The cells that a search adds use the code of those that it has.

    Raises:
        ConfigError: see `check_registered`.
    """
    from lesion_exp.sweeps.ledger import jobs_by_targets

    left = {"queued", "running", *again}
    numbers = [row.number for row in known.rows if sweep.facts.space or row.state.status in left]
    for job in jobs_by_targets(map(sweep.cell, numbers)):
        check_registered(job.config)


def launcher_node(node: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """Returns the launcher with which a sweep was begun, with the settings `given`, such as `launcher.workers`.

    Their values are read as in every override.

    Raises:
        ConfigError: the launcher has no such key, or its value cannot be read or has another type.
    """
    from lesion_exp.config.annotated import annotations_of, check_annotated, is_mapping
    from lesion_exp.config.overrides import parse_overrides

    changed = dict(node)
    annotations = {**dict.fromkeys(set(node) - {TARGET}), **annotations_of(node, LAUNCHER)}
    for name, text in given.items():
        key, _, inner = name.removeprefix(f"{LAUNCHER}.").partition(".")
        if key not in annotations or (inner and not is_mapping(annotations[key])):
            keys = sorted(annotations)
            raise ConfigError(
                f"expected one of launcher.{', launcher.'.join(keys)}, got {name} (the launcher itself "
                f"cannot be changed){did_you_mean(key, keys)}"
            )
        (read,) = parse_overrides([f"{name}={text}"])
        if read.is_sweep_override():
            raise ConfigError(
                f"expected one value for {name}, got several ({text}); quote a text that contains commas, or write a "
                f"list as {name}=[a,b]"
            )
        value = read.value()
        changed[key] = {**(changed.get(key) or {}), inner: value} if inner else value
    check_annotated(changed, LAUNCHER)
    return changed


def _command(sweep: Sweep, action: str) -> str:
    """Returns the command with which the user resumes or retries a sweep in its store."""
    place = place_words(sweep.facts.overrides, sweep.facts.store)
    return next_command("sweep", action, sweep.facts.sweep_id, *place)


def _drive(sweep: Sweep, launcher: Launcher, store: Store, again: Collection[str] = ()) -> int:
    with _cells_are_kept(sweep):
        summary = drive_to_end(sweep, launcher, store, again)
        _show_results(summary, store)
        return _end(sweep, summary)


@contextmanager
def _cells_are_kept(sweep: Sweep) -> Iterator[None]:
    """Adds a note that says how to continue the sweep to whatever stops the block."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        error.add_note(f"every cell is kept; {_command(sweep, 'resume')} continues the sweep")
        raise


def _show_results(summary: Summary, store: Store) -> None:
    """Shows the results of the cells taken together: of a cross-validation, or of a leak meter."""
    _join_folds(summary, store)
    _read_meter(summary, store)


def drive_to_end(sweep: Sweep, launcher: Launcher, store: Store, again: Collection[str] = ()) -> Summary:
    """Runs the cells of a sweep, shows the summary and returns it. What stops it carries a note on how to continue."""
    from lesion_exp.sweeps.driver import drive

    with _cells_are_kept(sweep):
        summary = drive(sweep, launcher, store, again)
    _show(summary)
    return summary


def _join_folds(summary: Summary, store: Store) -> None:
    """Shows each cross-validation of a finished sweep as one result."""
    from lesion_exp.sweeps.ledger import FOLD

    facts = summary.sweep.facts
    if FOLD not in facts.keys or facts.parent_run_id is None or set(summary.counts()) != {"finished"}:
        return
    from lesion_exp.verbs.evaluate.evaluate import evaluate_folds
    from lesion_exp.verbs.evaluate.evaluation_report import as_text

    for judged in evaluate_folds(store, facts.parent_run_id, Project.from_config(facts.store)):
        say(as_text(judged), sys.stderr)


def _read_meter(summary: Summary, store: Store) -> None:
    """Shows the result of a leak meter whose cells have all finished."""
    from lesion_exp.verbs.leakage.plan import is_meter

    if not is_meter(summary.sweep) or set(summary.counts()) != {"finished"}:
        return
    from lesion_exp.verbs.leakage.leakage_report import show_report
    from lesion_exp.verbs.leakage.meter import measure

    show_report(measure(summary.sweep, store).report, console(sys.stderr))


def _end(sweep: Sweep, summary: Summary) -> int:
    """Logs how to run the cells that are left, prints the id of the sweep's parent run, and returns the exit code."""
    counts = summary.counts()
    if "failed" in counts:
        log.info("%s runs the failed cells again; the logs are in %s", _command(sweep, "retry"), sweep.folder / "cells")
    if "queued" in counts:
        log.info("%s runs the cells that are left", _command(sweep, "resume"))
    print(summary.sweep.facts.parent_run_id or sweep.facts.parent_run_id)
    return 0 if set(counts) <= {"finished"} else 1


def _status(sweep: Sweep, arguments: Arguments) -> int:
    from lesion_exp.sweeps.driver import is_driven
    from lesion_exp.sweeps.summary import as_json, as_table, summarize

    _conclude(sweep)
    summary = summarize(sweep)
    if arguments.json:
        print(json.dumps(as_json(summary)))
        return 0
    from rich.live import Live

    shown, is_watched = console(sys.stdout), "--watch" in arguments.flags
    if not is_watched:
        shown.print(as_table(summary))
    if not is_driven(sweep) and {"queued", "running"} & set(summary.counts()):
        log.info("no process on this machine is running the sweep; %s continues it", _command(sweep, "resume"))
    if not is_watched:
        return 0
    with Live(as_table(summary), console=shown, auto_refresh=False) as live:
        while {"queued", "running"} & set(summary.counts()):
            time.sleep(WATCH_SECONDS)
            summary = summarize(sweep)
            live.update(as_table(summary), refresh=True)
    _conclude(sweep)
    return 0


def _conclude(sweep: Sweep) -> None:
    """Finishes the parent run of a sweep if its driver could not; without the store, only logs a warning."""
    from lesion_exp.errors import UserError
    from lesion_exp.sweeps.driver import conclude, lacks_conclusion

    if not lacks_conclusion(sweep):
        return
    try:
        conclude(sweep, sweep.project.store)
    except UserError as error:
        log.warning("the run of the sweep cannot be finished now: %s", error)


def _cancel(sweep: Sweep) -> int:
    from lesion_exp.sweeps.driver import cancel_waiting, is_driven
    from lesion_exp.sweeps.launcher.launcher import make_launcher

    if is_driven(sweep):
        sweep.cancel_file.touch()
        log.info("the running cells are being stopped")
        deadline = time.monotonic() + CANCEL_SECONDS
        while is_driven(sweep) and time.monotonic() < deadline:
            time.sleep(0.2)
    else:
        sweep.cancel_file.touch()
        cancel_waiting(sweep, none_runs=make_launcher(dict(sweep.facts.launcher)).cancel(sweep))
    from lesion_exp.sweeps.summary import summarize

    _show(summarize(sweep))
    return 0


def announce(plan: SweepPlan, arguments: Arguments) -> None:
    """Logs the number of cells and the keys that they vary, and shows the config of the first cell."""
    from lesion_exp.command.config_tree import show_config

    shown = arguments.show_tree and plan.first_cell.config["print_config"]
    if shown:
        show_config(plan.first_cell.config, plan.first_cell.overrides, defaults=compared_defaults(arguments))
    number = _counted(len(plan.cells)) if plan.cells else "cells chosen one after another"
    above = "; the config above is the first cell's" if shown else ""
    log.info("a sweep over %s: %s%s", ", ".join(plan.facts.keys), number, above)


def _counted(cells: int) -> str:
    return "1 cell" if cells == 1 else f"{cells} cells"


def _show(summary: Summary) -> None:
    from lesion_exp.sweeps.summary import as_table

    console(sys.stderr).print(as_table(summary))
