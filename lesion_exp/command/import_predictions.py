"""The verb `import`: makes a run of predictions that somebody else made, and evaluates it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from lesion_exp.command.arguments import Arguments, check_keys, compose_job
from lesion_exp.command.chosen_run import chosen_run
from lesion_exp.command.evaluate import show_evaluation
from lesion_exp.errors import ConfigError
from lesion_exp.next_command import next_command
from lesion_exp.terminal import say
from lesion_exp.verbs.evaluate.import_request import ImportRequest

if TYPE_CHECKING:
    from lesion_exp.verbs.evaluate.run_evaluation import RunEvaluation

_READ_KEYS: Final = ("dataset", "evaluation", "tracking.uri", "tracking.experiment", "paths")


def import_predictions(arguments: Arguments) -> int:
    """Shows the evaluation on standard output, its last line the id of the run; or one JSON object."""
    result = imported(arguments)
    if result is None:
        return 0
    show_evaluation(result, json_alone=arguments.json)
    if not arguments.json:
        print(f"\n{result.run_id}")
    say(f"compare it with another run of these images: {next_command('compare', result.run_id[:8], 'RUN')}", sys.stderr)
    return 0


def imported(arguments: Arguments) -> RunEvaluation | None:
    """Returns the evaluation of the imported predictions; None after `--cfg job`.

    Raises:
        DataError: a file is not there.
        ConfigError: none or several of `dataset=`, `truth=` and `like=` are given, or another key.
    """
    request = arguments.read(ImportRequest)
    request.check_files()
    check_keys(arguments, _READ_KEYS, "an import")
    given = {key for key in arguments.given_keys() if key.partition(".")[0] == "dataset"}
    sources = [name for name, value in (("truth=", request.truth), ("like=", request.like)) if value is not None]
    sources += ["dataset="] if given else []
    if len(sources) != 1:
        raise ConfigError(
            f"expected one of dataset=NAME dataset.root=DIR, truth=FILE and like=RUN, which have the true classes, got "
            f"{' and '.join(sources) or 'none'}; name one"
        )
    arguments.show_tree = False
    arguments.named_runs += [request.like] if request.like else []
    job = compose_job(arguments)
    if job is None:
        return None
    store = job.project.store
    needs_calibration = "evaluation.calibration" in arguments.given_keys()
    like = chosen_run(store, request.like) if request.like else None
    from lesion_exp.verbs.evaluate.import_predictions import import_predictions as import_file

    return import_file(request, job.config, job.project, like, needs_calibration=needs_calibration)
