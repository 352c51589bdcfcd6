"""The verb `shortcuts`: checks whether a network relies on anything beside the lesion."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Final, Literal

from lesion_exp.choices import EVALUATED_PARTS
from lesion_exp.command.arguments import Arguments, check_keys, compose_job
from lesion_exp.command.chosen_run import ChosenRun, chosen_run, read_moved
from lesion_exp.option import choice, option, whole
from lesion_exp.terminal import say
from lesion_exp.trained_runs.moved_data import MovedData

_READ_KEYS: Final = ("tracking.uri", "evaluation.bootstrap_draws", "evaluation.bootstrap_seed", "paths")


@dataclass(frozen=True)
class ShortcutOptions:
    """The options of `shortcuts` beside its run."""

    part: Literal["test", "val"] = option("test", choice(EVALUATED_PARTS), "part of the data", key="split.part")
    images: int | None = option(
        None,
        whole(example="500"),
        "largest number of images that the network is shown, drawn by lesion; without it, the whole part",
    )


def shortcuts(arguments: Arguments) -> int:
    """Shows the checks with their numbers on standard output, or one JSON object."""
    spec, places = arguments.read(ChosenRun).run, read_moved(arguments, MovedData).places
    wanted = arguments.read(ShortcutOptions)
    check_keys(arguments, _READ_KEYS, "a check of shortcuts")
    chosen = {key.removeprefix("evaluation.") for key in arguments.given_keys() if key.startswith("evaluation.")}
    arguments.show_tree = False
    job = compose_job(arguments)
    if job is None:
        return 0
    run = chosen_run(job.project.store, spec)
    from lesion_exp.trained_runs.trained_run import check_network, reading_ahead
    from lesion_exp.verbs.evaluate.evaluated_runs import evaluated_runs
    from lesion_exp.verbs.evaluate.request import EvaluationRequest

    request = EvaluationRequest(
        part=wanted.part,
        evaluation=job.config["evaluation"],
        chosen=frozenset(chosen),
        places=places,
    )
    member = evaluated_runs([run], request, job.project)[0]
    check_network(member, "new predictions on its own data")
    with reading_ahead(member):
        from lesion_exp.verbs.shortcuts.check import check_shortcuts
        from lesion_exp.verbs.shortcuts.shortcut_report import as_text

        checked = check_shortcuts(member, request.part, wanted.images)
    if arguments.json:
        print(json.dumps(checked.report.to_dict()))
    else:
        say(as_text(checked.report))
    say(f"shortcuts: run {run.run_id}\nfigure:    {checked.figure}", sys.stderr)
    return 0
