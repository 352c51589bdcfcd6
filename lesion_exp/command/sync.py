"""The verb `sync`: sends to a store what runs stored while it could not be reached."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lesion_exp.command.arguments import Arguments, check_store_keys, prepare_process
from lesion_exp.config.project import Project
from lesion_exp.config.shipped_conf import find_root
from lesion_exp.errors import ConfigError, first_cases
from lesion_exp.next_command import next_command
from lesion_exp.option import Kind, option
from lesion_exp.terminal import say

if TYPE_CHECKING:
    from lesion_exp.tracking.store import Store


@dataclass(frozen=True)
class SyncOptions:
    """The options of `sync` that are not keys of the config."""

    run: str | None = option(
        None,
        Kind("RUN", "3f2a91c0", "a run"),
        "an id or the beginning of one; without it, every run that has something to send",
    )


def sync(arguments: Arguments) -> int:
    """Sends the spools of all runs, or of one, and prints a line for each run, or one JSON object."""
    spec = arguments.read(SyncOptions).run
    check_store_keys(arguments)
    prepare_process(arguments)
    from lesion_exp.config.compose import compose
    from lesion_exp.tracking.sync import sync_runs

    config = compose(arguments.overrides, config_dirs=arguments.config_dirs, root=find_root(Path.cwd())).config
    root, live = Project.from_config(config).root, Project.from_config(config).live
    asked = config["tracking"]["uri"]
    outcomes = sync_runs(live, lambda recorded: _open(recorded, asked, root, live), spec)
    if arguments.json:
        runs = [{"run_id": o.run_id, "state": o.state, "sent": dict(o.counts), "reason": o.reason} for o in outcomes]
        print(json.dumps({"runs": runs}))
    else:
        for outcome in outcomes:
            say(outcome.line())
        if not outcomes:
            print(f"there is nothing to send in {live}")
    if left := [outcome for outcome in outcomes if outcome.state in ("failed", "refused")]:
        reasons = first_cases(f"{outcome.run_id}  {outcome.reason}" for outcome in left)
        raise ConfigError(
            f"expected to send the results of {len(outcomes)} runs, but these could not be sent:\n{reasons}\n"
            f"{next_command('sync')} tries again"
        )
    return 0


def _open(recorded: str, asked: str | None, root: Path, live: Path) -> Store:
    """The store to which a spool is sent: `tracking.uri` if given, since a server may have moved, else that of the run.

    A spool contains no password; `open_store` finds it in the environment.
    """
    from lesion_exp.privacy import without_secrets
    from lesion_exp.tracking.store import open_store

    return open_store(asked or without_secrets(recorded), root, live)
