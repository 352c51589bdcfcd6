"""The verb `doctor`: examines installation, machine, folders and store before an expensive run."""

from __future__ import annotations

import json
import sys

from lesion_exp.command.arguments import Arguments, compose_config, prepare_process
from lesion_exp.errors import ConfigError
from lesion_exp.terminal import console, say

FAULTY = 1
"""Exit code where there is a problem."""


def doctor(arguments: Arguments) -> int:
    """Shows what was found line by line, or one JSON object; returns 1 if there is a problem."""
    prepare_process(arguments)
    if arguments.print_config:
        raise ConfigError("expected no --cfg job: doctor trains nothing; train, prepare and preview take it")
    composed = compose_config(arguments)
    with_data = any(key.partition(".")[0] == "dataset" for key in arguments.given_keys())  # not the default one
    from lesion_exp.verbs.doctor.doctor import examine, in_words, show

    shown = console(sys.stdout)
    results = []
    for result in examine(composed.config, composed.project, with_data=with_data):
        results.append(result)
        if not arguments.json:
            show(result, shown)
    is_faulty = any(result.state == "problem" for result in results)
    if arguments.json:
        print(json.dumps({"healthy": not is_faulty, "checks": [result.to_dict() for result in results]}))
    say(in_words(results), sys.stderr)
    return FAULTY if is_faulty else 0
