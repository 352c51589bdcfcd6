"""The verb `shortcuts`: what a network may have learned beside the lesion."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from lesion_exp.command.arguments import Arguments, compose_job
from lesion_exp.command.chosen_run import chosen_run
from lesion_exp.errors import ConfigError
from lesion_exp.terminal import say

_COUNT_HERE: Final = ("tracking.uri", "evaluation.bootstrap_draws", "evaluation.bootstrap_seed", "paths.")
_PARTS: Final = ("test", "val")


def shortcuts(arguments: Arguments) -> int:
    """Shows verdicts and numbers on standard output, or one JSON object."""
    spec, root = arguments.need("run", "latest"), arguments.take("dataset.root")
    part, images = arguments.take("split.part") or "test", arguments.take("images")
    if part not in _PARTS:
        raise ConfigError(f"expected split.part to be test or val, got {part}; a network knows its training part")
    if images is not None and not (images.isdecimal() and int(images)):
        raise ConfigError(f"expected images to be a whole number above 0, got {images!r}; leave it out for all")
    without_effect = [text for text in arguments.overrides if not text.startswith(_COUNT_HERE)]
    if without_effect:
        raise ConfigError(
            f"expected keys that count when a run is checked ({', '.join(_COUNT_HERE[:3])}), got {without_effect[0]}"
            f"{arguments.nearest_own(without_effect[0])}\na run keeps the config that it was trained with"
        )
    chosen = {text.partition("=")[0].removeprefix("evaluation.") for text in arguments.overrides
              if text.startswith("evaluation.")}  # fmt: skip
    arguments.show_tree = False
    job = compose_job(arguments)
    if job is None:
        return 0
    from lesion_exp.training.tracked import open_job_store
    from lesion_exp.verbs.evaluate.member import make_members
    from lesion_exp.verbs.evaluate.request import EvaluationRequest
    from lesion_exp.verbs.shortcuts.check import check_shortcuts
    from lesion_exp.verbs.shortcuts.text import as_text

    request = EvaluationRequest(
        part="test" if part == "test" else "val",
        evaluation=job.config["evaluation"],
        chosen=frozenset(chosen),
        data_root=Path(root).expanduser().resolve() if root else None,
    )
    run = chosen_run(open_job_store(job.config), spec)
    member = make_members([run], request, job.config["paths"])[0]
    checked = check_shortcuts(member, request.part, int(images) if images else None)
    if arguments.json:
        print(json.dumps(checked.report.to_dict()))
    else:
        say(as_text(checked.report))
    say(f"shortcuts: run {run.run_id}\nfigure:    {checked.figure}", sys.stderr)
    return 0
