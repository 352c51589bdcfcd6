"""The thresholds by which `predict` decides on a class, as probabilities or as rules that validation has fitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lesion_exp.choices import NONE
from lesion_exp.errors import ConfigError, check_choice
from lesion_exp.evaluation.lesion_counts import TOO_FEW, is_enough, lesion_counts
from lesion_exp.evaluation.limits import LEAST_LESIONS
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.stored_run import Run, read_predictions
from lesion_exp.trained_runs.run_summary import RunArtifacts
from lesion_exp.trained_runs.trained_run import own_tta
from lesion_exp.verbs.predict.request import PredictionRequest

POINTS: Final = "operating_points/points.json"


def decision_thresholds(request: PredictionRequest, run: Run, classes: Sequence[str]) -> dict[str, float]:
    """Returns the threshold of each class to which `request` gives one; a rule is that of the evaluation of `run`.

    Raises:
        ConfigError: a class is unknown, no class is left without a threshold, the evaluation has no threshold by a
            rule or one of 0, or it was fitted on other probabilities than those of the request.
    """
    for name in request.thresholds:
        check_choice("a class in thresholds", name, classes)
    if request.thresholds and len(request.thresholds) == len(classes):
        raise ConfigError(
            f"expected thresholds of some of the classes ({', '.join(classes)}), got one for each; leave out the class "
            f"that is meant where no threshold is reached"
        )
    return {
        name: _by_rule(request, run, name, given) if isinstance(given, str) else float(given)
        for name, given in request.thresholds.items()
    }


def few_lesions(request: PredictionRequest, run: Run) -> tuple[str, ...]:
    """Returns a warning for each rule whose threshold validation has fitted on too few lesions.

    There is none for a run without stored predictions of validation.
    """
    rules = {name: rule for name, rule in request.thresholds.items() if isinstance(rule, str)}
    if not rules or run.fetch(artifacts.predictions("val")) is None:
        return ()
    counts = lesion_counts(read_predictions(run, "val")).classes
    return tuple(
        f"the threshold of {name} by {rule} was fitted on {counts[name][0]:,} validation lesions of the class and "
        f"{counts[name][1]:,} others, {TOO_FEW} for it to hold on new images; at least {LEAST_LESIONS} of both are "
        f"needed"
        for name, rule in rules.items()
        if not all(map(is_enough, counts[name]))
    )


def _by_rule(request: PredictionRequest, run: Run, name: str, rule: str) -> float:
    tta = request.tta not in (None, own_tta(run))
    changed = {"calibration=": request.calibration != NONE, "checkpoint=": request.checkpoint != "best", "tta=": tta}
    given = [key for key, is_changed in changed.items() if is_changed]
    if given:
        raise ConfigError(
            f"expected a probability in thresholds beside {given[0]}, since {rule} was found on the run's own "
            f"validation predictions, which are other probabilities; leave {given[0]} out, or write {{{name}: 0.3}}"
        )
    points = [point for point in RunArtifacts(run).entries(POINTS) if point.get("target") == name]
    found = {str(point["rule"]): float(point["threshold"]) for point in points}
    if rule not in found:
        known = f"it has {', '.join(found)}" if found else "it has none for this class"
        raise ConfigError(
            f"expected a threshold by {rule} of {name} in the evaluation of run {run.run_id[:8]}, but {known}; write a "
            f"probability: {{{name}: 0.3}}"
        )
    if not found[rule] > 0:
        raise ConfigError(
            f"expected a threshold above 0 by {rule} of {name} in the evaluation of run {run.run_id[:8]}, got "
            f"{found[rule]:g}, which every image reaches; write a probability: {{{name}: 0.3}}"
        )
    return found[rule]
