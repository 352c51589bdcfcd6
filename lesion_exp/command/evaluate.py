"""The verb `evaluate`: evaluates runs that exist."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lesion_exp.choices import (
    ANY_CALIBRATION,
    ANY_ENSEMBLE,
    EVALUATED_PARTS,
    STACK_COLUMNS,
    STACK_FEATURES,
    STACKED,
    STACKS,
    TTA,
)
from lesion_exp.command.arguments import Arguments, check_keys, compose_job
from lesion_exp.command.chosen_run import RUN, RUN_NAMES, chosen_runs, read_moved
from lesion_exp.config.command_words import STORE_KEYS
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError
from lesion_exp.next_command import key_of
from lesion_exp.option import REQUIRED, Names, Truth, choice, option, whole
from lesion_exp.terminal import say
from lesion_exp.trained_runs.moved_data import MovedFiles

if TYPE_CHECKING:
    from lesion_exp.evaluation.stacking import StackOptions
    from lesion_exp.tracking.store import Store
    from lesion_exp.tracking.stored_run import Run
    from lesion_exp.verbs.evaluate.run_evaluation import RunEvaluation

FOLDS: Final = "folds:"
_STACK_KEYS: Final = ("stack", "stack_features", "stack_columns", "stack_balanced", "stack_seed")
_READ_KEYS: Final = ("dataset", "evaluation", "split.part", "split.allow_leakage", "tracking.uri", "paths")
_NAMED_APART: Final = ("evaluation.ensemble", *STORE_KEYS)


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of `evaluate`: the runs, and keys of `evaluation` that may be given without the name of the group."""

    run: str = option(
        REQUIRED, RUN, f"{RUN_NAMES}; several as [A,B]; a cross-validation as folds:RUN, several as folds:[A,B]"
    )
    tta: str | None = option(None, choice(TTA), "test-time augmentation; any but the run's own needs the images")
    calibration: str | None = option(
        None, choice(ANY_CALIBRATION), "a calibration fitted on the validation part; without it, the run's own"
    )
    ensemble: str | None = option(
        None,
        choice(ANY_ENSEMBLE),
        "how several runs are combined: stacked fits a model on their predictions, soup averages their weights, pooled "
        "joins folds",
    )
    stack: str = option(
        STACKS[0],
        choice(STACKS),
        "with ensemble=stacked: the model, a logistic regression or gradient-boosted trees (hgb of scikit-learn, lgbm "
        "of LightGBM)",
    )
    stack_features: tuple[str, ...] = option(
        STACK_FEATURES,
        Names("A,B", "[predictions,context]"),
        "with ensemble=stacked: what the model reads: the predictions, how they and numbers of the metadata compare "
        "with the other lesions of the patient, and metadata",
    )
    stack_columns: tuple[str, ...] = option(
        STACK_COLUMNS,
        Names("A,B", "[age,sex,site]"),
        "with ensemble=stacked: columns of metadata, with * for any text; never leaks_* or ids",
    )
    stack_balanced: bool = option(
        False,
        Truth(),
        "with ensemble=stacked: whether each class has the same weight in the fit; its probabilities are then not "
        "calibrated",
    )
    stack_seed: int = option(0, whole(0, example="1"), "with ensemble=stacked: seed of its folds")


def evaluate(arguments: Arguments) -> int:
    """Shows the evaluation on standard output: a report, or one JSON object."""
    result = evaluated(arguments)
    if result is None:
        return 0
    show_evaluation(result, json_alone=arguments.json)
    say(f"evaluation: run {result.run_id}, folder evaluation/{result.name}", sys.stderr)
    return 0


def show_evaluation(result: RunEvaluation, *, json_alone: bool) -> None:
    """Shows an evaluation on standard output: one JSON object if `json_alone`, else a report."""
    from lesion_exp.verbs.evaluate.evaluation_report import as_json, as_text

    if json_alone:
        print(json.dumps(as_json(result)))
    else:
        say(as_text(result), end="")


def evaluated(arguments: Arguments) -> RunEvaluation | None:
    """Returns the evaluation that the arguments ask for; None after `--cfg job`."""
    stack_keys = [key for key in _STACK_KEYS if arguments.gives(EvaluateOptions, key)]
    wanted = arguments.read(EvaluateOptions)
    short = {"tta": wanted.tta, "calibration": wanted.calibration, "ensemble": wanted.ensemble}
    for key, value in short.items():
        if value is not None:
            arguments.keep(f"evaluation.{key}", value)
    other = "dataset" in arguments.given_keys()
    places: dict[str, Path] = {} if other else read_moved(arguments, MovedFiles).places
    given = arguments.given_keys()
    check_keys(arguments, _READ_KEYS, "an evaluation")
    if not other and {key for key in given if key.startswith("dataset.")} - {"dataset.root"}:
        raise ConfigError(
            "expected dataset=NAME beside keys of a data set, got the keys alone; only dataset.root=DIR, "
            "dataset.sets.NAME=DIR and dataset.pseudo_labels=FILE can be given alone: where the run's own data are now"
        )
    arguments.show_tree = False
    job = compose_job(arguments)
    if job is None:
        return None
    config = job.config
    if stack_keys and config["evaluation"]["ensemble"] != STACKED:
        raise ConfigError(
            f"expected ensemble=stacked beside {stack_keys[0]}=, got ensemble={config['evaluation']['ensemble']}; add "
            f"ensemble=stacked"
        )
    part = config["split"]["part"]
    if part not in EVALUATED_PARTS:
        raise ConfigError(
            f"expected split.part to be val or test, got {part}; the network was trained on the training part"
        )
    from lesion_exp.verbs.evaluate.request import SHARED_KEYS, EvaluationRequest

    refused = sorted(given & {f"dataset.{key}" for key in SHARED_KEYS if key != "view"})
    if refused:
        raise ConfigError(
            f"expected no {refused[0]}, since the network must see images as it did in training; leave it out"
        )
    if not other and "dataset.root" in given:
        places["dataset.root"] = Path(config["dataset"]["root"])
    request = EvaluationRequest(
        part=part,
        evaluation=config["evaluation"],
        chosen=_chosen(given, config["evaluation"]),
        dataset=config["dataset"] if other else None,
        places=places,
        allow_leakage=config["split"]["allow_leakage"],
        stack=_stack_options(wanted),
        overrides=tuple(text for text in arguments.overrides if key_of(text) not in _NAMED_APART),
        view=config["dataset"]["view"] if "dataset.view" in given else None,
    )
    project = Project.from_config(config)
    runs = _runs(project.store, wanted.run)
    from lesion_exp.verbs.evaluate.evaluate import evaluate as evaluate_runs

    return evaluate_runs(runs, request, project)


def _stack_options(wanted: EvaluateOptions) -> StackOptions:
    from lesion_exp.evaluation.stack_models import check_installed
    from lesion_exp.evaluation.stacking import StackOptions

    check_installed(wanted.stack)
    return StackOptions(
        wanted.stack,
        wanted.stack_features,
        wanted.stack_columns,
        seed=wanted.stack_seed,
        balanced=wanted.stack_balanced,
    )


def _runs(store: Store, spec: str) -> list[Run]:
    """The runs that `spec` names, as in `chosen_runs`.

    The parent run of a sweep stands for its cells, `folds:RUN` for all folds of a cross-validation, and `folds:[A,B]`
    for those of several.
    """
    from lesion_exp.tracking.find import runs_where
    from lesion_exp.tracking.stored_run import PARENT_TAG

    runs = chosen_runs(store, spec.removeprefix(FOLDS))
    cells = [run for run in runs if "sweep_id" not in run.tags or PARENT_TAG in run.tags]
    if not cells:
        mine = f"tags.`{PARENT_TAG}` = '{runs[0].run_id}' and tags.kind = 'train'"
        cells = list(runs_where(store, mine)) or runs
    if not spec.startswith(FOLDS):
        return cells
    from lesion_exp.verbs.evaluate.evaluated_runs import fold_runs

    named = cells if spec.removeprefix(FOLDS).startswith("[") else cells[:1]
    folds = {fold.run_id: fold for run in named for fold in fold_runs(run)}
    return list(folds.values())


def _chosen(given: set[str], node: dict[str, object]) -> frozenset[str]:
    """The keys of `evaluation` that the command gives; a preset (`evaluation=NAME`) gives all of them."""
    if "evaluation" in given:
        return frozenset(node)
    return frozenset(key.removeprefix("evaluation.") for key in given if key.startswith("evaluation."))
