"""The verb `bundle`: runs into a file, and from a file into a store."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

from lesion_exp.command.arguments import Arguments, open_store_of
from lesion_exp.command.chosen_run import chosen_runs
from lesion_exp.errors import ConfigError, did_you_mean
from lesion_exp.terminal import say

ACTIONS: Final = ("export", "import")


def bundle(arguments: Arguments) -> int:
    """`bundle export` prints the file's path on standard output, `bundle import` the ids of the runs, a line each."""
    action = arguments.names.pop(0) if arguments.names else "none"
    if action not in ACTIONS:
        raise ConfigError(
            f"expected bundle export run=ID output=FILE, or bundle import FILE, got {action}"
            f"{did_you_mean(action, ACTIONS)}"
        )
    return _export(arguments) if action == "export" else _import(arguments)


def _export(arguments: Arguments) -> int:
    if arguments.names:
        raise ConfigError(f"expected run=ID and output=FILE, got {arguments.names[0]}; bundle export run=latest ...")
    spec = arguments.need("run", "latest")
    output = Path(arguments.need("output", "run.zip")).expanduser().resolve()
    store, _ = open_store_of(arguments)
    from lesion_exp.verbs.bundle.export import export_runs, with_children

    done = export_runs(with_children(chosen_runs(store, spec)), output)
    say(f"{len(done.run_ids)} run(s), {done.num_bytes / 1e6:.1f} MB, sha256 {done.sha256}", sys.stderr)
    if arguments.json:
        print(json.dumps({**asdict(done), "path": str(done.path)}))
    else:
        print(done.path)
    return 0


def _import(arguments: Arguments) -> int:
    named = arguments.take("input")
    files = [*arguments.names, *filter(None, [named])]
    if len(files) != 1:
        raise ConfigError(f"expected one bundle to import, got {' '.join(files) or 'none'}; bundle import run.zip")
    path = Path(files[0]).expanduser().resolve()
    largest = _gib(arguments.take("max_gib"))
    store, _ = open_store_of(arguments)
    from lesion_exp.verbs.bundle.importing import import_bundle

    done = import_bundle(store, path, largest)
    for run in done:
        say(f"{run.state}: run {run.origin_id} ({run.name}) as {run.run_id}", sys.stderr)
    if all(run.state == "already here" for run in done):
        say("nothing to do: every run of the bundle is in this store", sys.stderr)
    if arguments.json:
        print(json.dumps({"runs": [asdict(run) for run in done]}))
    else:
        print(*(run.run_id for run in done), sep="\n")
    return 0


def _gib(text: str | None) -> float:
    from lesion_exp.verbs.bundle.contents import LARGEST_GIB

    if text is None:
        return LARGEST_GIB
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ConfigError(f"expected max_gib to be a number above 0, got {text!r}; for example max_gib=100")
    return value
