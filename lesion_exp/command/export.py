"""The verb `export`: writes a run's network in another format and compares it with the original."""

from __future__ import annotations

import json
import sys

from lesion_exp.command.arguments import Arguments, check_store_keys, open_project
from lesion_exp.command.chosen_run import ChosenRun, chosen_run, read_moved
from lesion_exp.errors import check_output
from lesion_exp.taxonomy import RESEARCH_ONLY
from lesion_exp.terminal import say
from lesion_exp.trained_runs.moved_data import MovedData
from lesion_exp.verbs.export.file_format import path_of
from lesion_exp.verbs.export.request import ExportRequest


def export(arguments: Arguments) -> int:
    """Shows the comparison on standard output: a table, or one JSON object. Returns 1 if the file must not be used."""
    spec = arguments.read(ChosenRun).run
    request = arguments.read(ExportRequest, places=read_moved(arguments, MovedData).places)
    check_store_keys(arguments)
    check_output(request.output, is_folder=True)
    project = open_project(arguments)
    run = chosen_run(project.store, spec)
    path_of(request)
    from lesion_exp.trained_runs.trained_run import check_network, reading_ahead, trained_run

    trained = trained_run(run, project, request.places)
    check_network(trained, "a model")
    with reading_ahead(trained):
        from lesion_exp.verbs.export.export import as_text, facts_path
        from lesion_exp.verbs.export.export import export as write

        done = write(run, request, project)
    shown = {"run_id": done.run_id, "path": str(done.path), "check": done.check.to_dict()}
    if arguments.json:
        print(json.dumps(shown))
    else:
        say(as_text(done.check.to_dict()))
    say(f"written: {done.path}, with a description of its inputs and outputs: {facts_path(done.path)}", sys.stderr)
    say(RESEARCH_ONLY, sys.stderr)
    if done.check.failure:
        say(f"lesion-exp: the exported file differs from the original: {done.check.failure}", sys.stderr)
        return 1
    return 0
