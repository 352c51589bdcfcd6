"""The verb `shortcuts`: what a network may have learned beside the lesion."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Final, Literal

from lesion_exp.choices import EVALUATED_PARTS
from lesion_exp.command.arguments import Arguments, compose_job
from lesion_exp.command.chosen_run import ChosenRun, MovedData, chosen_run
from lesion_exp.errors import ConfigError
from lesion_exp.option import choice, option, whole
from lesion_exp.terminal import say

_COUNT_HERE: Final = ("tracking.uri", "evaluation.bootstrap_draws", "evaluation.bootstrap_seed", "paths.")


@dataclass(frozen=True)
class ShortcutOptions:
    """The options of `shortcuts` beside its run."""

    part: Literal["test", "val"] = option("test", choice(EVALUATED_PARTS), "the part", key="split.part")
    images: int | None = option(
        None,
        whole(example="500"),
        "the network is shown lesions drawn up to so many images; without it, all of the part",
    )


def shortcuts(arguments: Arguments) -> int:
    """Shows verdicts and numbers on standard output, or one JSON object."""
    spec, root = arguments.read(ChosenRun).run, arguments.read(MovedData).data_root
    wanted = arguments.read(ShortcutOptions)
    without_effect = [text for text in arguments.overrides if not text.startswith(_COUNT_HERE)]
    if without_effect:
        raise ConfigError(
            f"expected keys that count when a run is checked ({', '.join(_COUNT_HERE[:3])}), got {without_effect[0]}"
            f"{arguments.nearest_own(without_effect[0])}\na run keeps the config that it was trained with"
        )
    chosen = {key.removeprefix("evaluation.") for key in arguments.given_keys() if key.startswith("evaluation.")}
    arguments.show_tree = False
    job = compose_job(arguments)
    if job is None:
        return 0
    from lesion_exp.verbs.evaluate.member import make_members
    from lesion_exp.verbs.evaluate.request import EvaluationRequest
    from lesion_exp.verbs.shortcuts.check import check_shortcuts
    from lesion_exp.verbs.shortcuts.shortcut_report import as_text

    request = EvaluationRequest(
        part=wanted.part,
        evaluation=job.config["evaluation"],
        chosen=frozenset(chosen),
        data_root=root.resolve() if root else None,
    )
    run = chosen_run(job.project.store, spec)
    member = make_members([run], request, job.project)[0]
    checked = check_shortcuts(member, request.part, wanted.images)
    if arguments.json:
        print(json.dumps(checked.report.to_dict()))
    else:
        say(as_text(checked.report))
    say(f"shortcuts: run {run.run_id}\nfigure:    {checked.figure}", sys.stderr)
    return 0
