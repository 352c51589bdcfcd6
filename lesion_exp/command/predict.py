"""The verb `predict`: predicts images without labels with a run's network."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from lesion_exp.command.arguments import (
    Arguments,
    check_store_keys,
    compose_config,
    open_project,
    prepare_process,
)
from lesion_exp.command.chosen_run import ChosenRun, chosen_run, chosen_weights
from lesion_exp.errors import ConfigError, check_output
from lesion_exp.next_command import key_of
from lesion_exp.taxonomy import RESEARCH_ONLY
from lesion_exp.terminal import say
from lesion_exp.verbs.predict.output_files import output_of
from lesion_exp.verbs.predict.request import NO_IMAGES, PredictionRequest

if TYPE_CHECKING:
    from lesion_exp.verbs.predict.predict import PredictionSummary

_DATASET: Final = "dataset"
_PATHS: Final = "paths"


def predict(arguments: Arguments) -> int:
    """Writes the predictions to a file and prints its path, or one JSON object with a summary.

    Returns 1 if no image has a prediction.
    """
    summary = predicted(arguments)
    print(json.dumps(summary.to_dict()) if arguments.json else summary.output)
    found = ", ".join(f"{count:,} {name}" for name, count in summary.predictions.items() if count)
    done = summary.images - summary.errors
    images = f"{done:,} image{'s' * (done != 1)} predicted"
    say(f"{images} in {summary.seconds:.1f} s{f': {found}' if found else ''}", sys.stderr)
    say(
        f"calibration: {summary.calibration}, precision: {summary.precision}, test-time augmentation: {summary.tta} "
        f"({summary.facts})",
        sys.stderr,
    )
    if summary.thresholds_of_prediction:
        limits = ", ".join(f"{name} from {limit:.3g}" for name, limit in summary.thresholds_of_prediction.items())
        say(f"thresholds: {limits}; below them, the likeliest of the other classes is predicted", sys.stderr)
    if summary.features:
        say(f"features and logits: {summary.features}", sys.stderr)
    for text in summary.warnings:
        say(f"warning: {text}", sys.stderr)
    if summary.pseudo_labels and summary.pseudo_counts is not None and summary.thresholds is not None:
        number = sum(summary.pseudo_counts.values())
        shown = ", ".join(
            f"{name} {count:,} {'(none)' if (limit := summary.thresholds[name]) is None else f'(from {limit:.3g})'}"
            for name, count in summary.pseudo_counts.items()
        )
        say(f"pseudo-labels: {number:,} of {done:,} images, by class and threshold: {shown}", sys.stderr)
        say(
            f"train with them: lesion-exp train ... dataset.pseudo_labels={summary.pseudo_labels} "
            f"dataset.pseudo_weight=0.5",
            sys.stderr,
        )
    if summary.submission:
        say(f"submission: {summary.submission}", sys.stderr)
    if summary.to_label:
        say(f"to label next: {summary.to_label}", sys.stderr)
    say(RESEARCH_ONLY, sys.stderr)
    if summary.errors == summary.images:
        say(f"lesion-exp: no image has a prediction; the first error is {summary.first_error}", sys.stderr)
        return 1
    if summary.errors:
        say(f"images without a prediction: {summary.errors:,}; the column error gives the reasons", sys.stderr)
    return 0


def predicted(arguments: Arguments) -> PredictionSummary:
    """Predicts as the arguments say and returns a summary, which names the file with the predictions."""
    spec = arguments.read(ChosenRun).run
    counts = arguments.gives(PredictionRequest, "count")
    weights = chosen_weights(arguments, PredictionRequest, spec)
    has_view = f"{_DATASET}.view" in arguments.given_keys()
    dataset = _data_set(arguments)
    if dataset is None and not arguments.gives(PredictionRequest, "source"):
        near = arguments.near("input")
        if near != "none":
            raise ConfigError(f"expected input=, got {near}; for example input=FOLDER")
        if not arguments.gives(PredictionRequest, "output"):
            raise ConfigError(NO_IMAGES)
    view = dataset["view"] if dataset is not None and has_view else None
    request = arguments.read(PredictionRequest, dataset=dataset, view=view, **weights)
    if counts and request.rank is None:
        raise ConfigError(f"expected rank= beside count={request.count}, got none; for example rank=entropy")
    check_store_keys(arguments)
    if dataset is not None:
        from lesion_exp.config.places import check_data_folders

        check_data_folders(dataset)
    check_output(output_of(request).parent, is_folder=True)
    project = open_project(arguments)
    run = chosen_run(project.store, spec)
    from lesion_exp.verbs.predict.further_files import check_first

    check_first(run, request, project)
    from lesion_exp.training.data import read_ahead

    with nullcontext() if dataset is None else read_ahead(dataset):
        from lesion_exp.verbs.predict.predict import predict as predict_images

        return predict_images(run, request, project)


def _data_set(arguments: Arguments) -> Mapping[str, Any] | None:
    """The node `dataset` that the command describes, whose keys are removed from the arguments; None without any.

    Raises:
        ConfigError: there are keys of a data set without its name, or keys that change what the network sees.
    """
    words = [
        text for text in arguments.overrides if key_of(text).startswith(f"{_DATASET}.") or key_of(text) == _DATASET
    ]
    if not words:
        return None
    given = {key_of(text) for text in words}
    if _DATASET not in given:
        raise ConfigError(f"expected dataset=NAME beside {words[0]}, got none; name the data set, or leave the key out")
    from lesion_exp.model.inputs import SAMPLE_KEYS

    refused = sorted(given & {f"{_DATASET}.{key}" for key in SAMPLE_KEYS if key != "view"})
    if refused:
        raise ConfigError(
            f"expected no {refused[0]}, since the network must see images as it did in training; leave it out"
        )
    prepare_process(arguments)
    arguments.overrides = [text for text in arguments.overrides if text not in words]
    of_project = [
        text for text in arguments.overrides if key_of(text).startswith(f"{_PATHS}.")
    ]  # generated data lie there
    node: Mapping[str, Any] = compose_config(replace(arguments, overrides=[*of_project, *words])).config[_DATASET]
    return node
