"""The files that a prediction writes beside its output, and whether they may be written."""

from __future__ import annotations

from pathlib import Path

from lesion_exp.errors import ConfigError
from lesion_exp.verbs.predict.network import folder_of, output_of, to_label_file
from lesion_exp.verbs.predict.plan import DONE_FILE, PLAN_FILE
from lesion_exp.verbs.predict.request import PredictionRequest
from lesion_exp.verbs.predict.submission import submission_path


def facts_path(output: Path) -> Path:
    """The file that says how the probabilities in `output` were made, see `PredictionPlan.facts`."""
    return output.with_name(f"{output.stem}_facts.json")


def check_further_files(request: PredictionRequest) -> None:
    """Checks the files of pseudo-labels, of features and of the submission that `request` asks for.

    Raises:
        ConfigError: one exists already, and this prediction has not written it before it was stopped; or two files of
            the request are the same.
    """
    output = output_of(request)
    taken = {output: "output=", facts_path(output): "the facts about output="}
    if request.rank is not None:
        taken[to_label_file(output)] = "the images to label next"
    for key, path in _chosen(request, output).items():
        if path in taken:
            raise ConfigError(
                f"expected another file than {taken[path]} for {key}, got {path} for both; name another one, or "
                f"another output="
            )
        taken[path] = key
        if path.exists() and not request.force and not _is_of_stopped(path, output):
            raise ConfigError(
                f"expected a new file for {key}, but {path} exists; name another one, or use force=true to replace it"
            )


def _chosen(request: PredictionRequest, output: Path) -> dict[str, Path]:
    given = {"pseudo_labels": request.pseudo_labels, "output_features": request.features}
    found = {key: path.expanduser().absolute() for key, path in given.items() if path is not None}
    return found if request.challenge is None else {**found, "format": submission_path(output, request.challenge)}


def _is_of_stopped(path: Path, output: Path) -> bool:
    """Whether a prediction into `output` that was stopped wrote `path`: after its plans, whose time is its begin."""
    folder = folder_of(output)
    plans = [*folder.glob(PLAN_FILE), *folder.glob(DONE_FILE), *folder.glob(f"*/{PLAN_FILE}")]
    return bool(plans) and all(path.stat().st_mtime_ns >= plan.stat().st_mtime_ns for plan in plans)
