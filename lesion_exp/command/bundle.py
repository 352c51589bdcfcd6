"""The verb `bundle`: exports runs to a file, and imports them from a file into a store."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from lesion_exp.byte_size import file_size
from lesion_exp.command.arguments import Arguments, open_project
from lesion_exp.command.chosen_run import RUN, RUN_NAMES, chosen_runs
from lesion_exp.errors import ConfigError, DataError, did_you_mean
from lesion_exp.option import REQUIRED, file, option
from lesion_exp.terminal import say
from lesion_exp.verbs.bundle.request import BundleImport

ACTIONS: Final = ("export", "import")


@dataclass(frozen=True)
class BundleExport:
    """The options of `bundle export`."""

    run: str = option(REQUIRED, RUN, f"export: {RUN_NAMES}; several as [A,B]; or a sweep's id")
    output: Path = option(REQUIRED, file("run.zip"), "export: the bundle to write")


def bundle(arguments: Arguments) -> int:
    """`bundle export` prints the path of the file, `bundle import` the ids of the runs, one a line."""
    action = arguments.names.pop(0) if arguments.names else "none"
    if action not in ACTIONS:
        raise ConfigError(
            f"expected bundle export run=ID output=FILE, or bundle import FILE, got {action}"
            f"{did_you_mean(action, ACTIONS)}"
        )
    return _export(arguments) if action == "export" else _import(arguments)


def _export(arguments: Arguments) -> int:
    if arguments.names:
        raise ConfigError(
            f"expected run=ID and output=FILE, got {arguments.names[0]}; for example "
            f"lesion-exp bundle export run=latest output=run.zip"
        )
    wanted = arguments.read(BundleExport)
    store = open_project(arguments).store
    runs = chosen_runs(store, wanted.run)
    from lesion_exp.verbs.bundle.export import export_runs, with_children

    done = export_runs(with_children(runs), wanted.output.resolve())
    say(f"{len(done.run_ids)} run(s), {file_size(done.num_bytes)}, sha256 {done.sha256}", sys.stderr)
    if arguments.json:
        print(json.dumps({**asdict(done), "path": str(done.path)}))
    else:
        print(done.path)
    return 0


def _import(arguments: Arguments) -> int:
    wanted = arguments.read(BundleImport)
    files = [*map(Path, arguments.names), *filter(None, [wanted.input])]
    if len(files) != 1:
        got = " ".join(map(str, files)) or "none"
        raise ConfigError(f"expected one bundle to import, got {got}; for example lesion-exp bundle import run.zip")
    path = files[0].expanduser().resolve()
    if not path.exists():
        raise DataError(f"expected a bundle at {path}, but there is no file; correct the path")
    store = open_project(arguments).store
    from lesion_exp.verbs.bundle.importing import import_bundle

    done = import_bundle(store, path, wanted.max_gib)
    for run in done:
        say(f"{run.state}: run {run.origin_id} ({run.name}) as {run.run_id}", sys.stderr)
    if all(run.state == "already here" for run in done):
        say("nothing to do: every run of the bundle is in this store", sys.stderr)
    if arguments.json:
        print(json.dumps({"runs": [asdict(run) for run in done]}))
    else:
        print(*(run.run_id for run in done), sep="\n")
    return 0
