"""The verb `evaluate`: runs judged once more."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lesion_exp.choices import ANY_CALIBRATION, ANY_ENSEMBLE, EVALUATED_PARTS, TTA
from lesion_exp.command.arguments import Arguments, compose_job
from lesion_exp.command.chosen_run import RUN, RUN_NAMES, chosen_runs
from lesion_exp.errors import ConfigError
from lesion_exp.option import REQUIRED, choice, option
from lesion_exp.terminal import say

if TYPE_CHECKING:
    from lesion_exp.tracking.find import Run
    from lesion_exp.tracking.store import Store
    from lesion_exp.verbs.evaluate.run_evaluation import RunEvaluation

FOLDS: Final = "folds:"
_COUNT_HERE: Final = ("dataset", "evaluation", "split.part", "split.allow_leakage", "tracking.uri", "paths")


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of `evaluate` that are not keys of the config, or are without the name of their group."""

    run: str = option(REQUIRED, RUN, f"{RUN_NAMES}; several as [A,B]; a cross-validation as folds:RUN")
    tta: str | None = option(None, choice(TTA), "test-time augmentation; another than the run's own needs the images")
    calibration: str | None = option(None, choice(ANY_CALIBRATION), "fitted on validation; without it, the run's own")
    ensemble: str | None = option(
        None, choice(ANY_ENSEMBLE), "how several runs become one: soup averages weights, pooled joins folds"
    )


def evaluate(arguments: Arguments) -> int:
    """Shows the evaluation on standard output: a report, or one JSON object."""
    judged = evaluated(arguments)
    if judged is None:
        return 0
    from lesion_exp.verbs.evaluate.evaluation_report import as_json, as_text

    if arguments.json:
        print(json.dumps(as_json(judged)))
    else:
        say(as_text(judged), end="")
    say(f"evaluation: run {judged.run_id}, folder evaluation/{judged.name}", sys.stderr)
    return 0


def evaluated(arguments: Arguments) -> RunEvaluation | None:
    """The evaluation that the arguments ask for; None after `--cfg job`."""
    wanted = arguments.read(EvaluateOptions)
    short = {"tta": wanted.tta, "calibration": wanted.calibration, "ensemble": wanted.ensemble}
    for key, value in short.items():
        if value is not None:
            arguments.keep(f"evaluation.{key}", value)
    given = arguments.given_keys()
    for key in sorted(given):
        if not any(key == known or key.startswith(f"{known}.") for known in _COUNT_HERE):
            raise ConfigError(
                f"expected keys that count when a run is judged ({', '.join(_COUNT_HERE)}), got {key}"
                f"{arguments.nearest_own(key)}\na run keeps the config that it was trained with"
            )
    if "dataset" not in given and {key for key in given if key.startswith("dataset.")} - {"dataset.root"}:
        raise ConfigError(
            "expected dataset=NAME beside keys of a data set, got the keys alone; dataset.root=DIR alone says where "
            "the run's own data lie now"
        )
    arguments.show_tree = False
    job = compose_job(arguments)
    if job is None:
        return None
    from lesion_exp.config.project import Project
    from lesion_exp.verbs.evaluate.evaluate import evaluate as judge
    from lesion_exp.verbs.evaluate.request import SHARED_KEYS, EvaluationRequest

    config = job.config
    refused = sorted(given & {f"dataset.{key}" for key in SHARED_KEYS})
    if refused:
        raise ConfigError(
            f"expected no {refused[0]}, got one: what a network sees of an image stays as it was trained; leave it out"
        )
    part = config["split"]["part"]
    if part not in EVALUATED_PARTS:
        raise ConfigError(f"expected split.part to be val or test, got {part}; a network knows its training part")
    other = "dataset" in given
    request = EvaluationRequest(
        part=part,
        evaluation=config["evaluation"],
        chosen=_chosen(given, config["evaluation"]),
        dataset=config["dataset"] if other else None,
        data_root=Path(config["dataset"]["root"]) if "dataset.root" in given and not other else None,
        allow_leakage=config["split"]["allow_leakage"],
    )
    return judge(_runs(Project.from_config(config).store, wanted.run), request, Project.from_config(config))


def _runs(store: Store, spec: str) -> list[Run]:
    """The runs that `spec` names: as `chosen_runs`, a sweep's cells for its run, or by `folds:RUN` all folds of a
    cross-validation."""
    from lesion_exp.tracking.find import PARENT_TAG, runs_where
    from lesion_exp.verbs.evaluate.member import fold_runs

    runs = chosen_runs(store, spec.removeprefix(FOLDS))
    cells = [run for run in runs if "sweep_id" not in run.tags or PARENT_TAG in run.tags]
    if not cells:
        mine = f"tags.`{PARENT_TAG}` = '{runs[0].run_id}' and tags.kind = 'train'"
        cells = list(runs_where(store, mine)) or runs
    return fold_runs(cells[0]) if spec.startswith(FOLDS) else cells


def _chosen(given: set[str], node: dict[str, object]) -> frozenset[str]:
    """The keys of `evaluation` that the command gives; a preset gives them all."""
    if "evaluation" in given:
        return frozenset(node)
    return frozenset(key.removeprefix("evaluation.") for key in given if key.startswith("evaluation."))
